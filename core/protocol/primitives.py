"""What generated code calls where it is not straight: long varints, integers, unknown tags, refusals."""

from struct import Struct
from struct import error as StructError
from typing import Protocol, overload

from tailrace.core.errors import UNSUPPORTED_VERSION, KafkaError, ProtocolError

MALFORMED = (
    StructError,
    IndexError,
    UnicodeDecodeError,
)  # what reading past a buffer's end or bad text raises
STRING_BYTES_MAX = 32_767  # also where the length would have room for more
ENTRIES_MAX = 50_000  # topics, partitions, names, tagged fields... of one request: six times our partitions
TAGS_MAX = 127  # of one part of a message: their count takes one byte
UNENCODABLE = (StructError, AttributeError, TypeError, UnicodeEncodeError, OverflowError)


_ONE_BYTE = tuple(bytes((value,)) for value in range(128))


class Source(Protocol):
    """What is decoded from: bytes or an mmap, whose slices are bytes."""

    @overload
    def __getitem__(self, place: int, /) -> int: ...
    @overload
    def __getitem__(self, place: slice, /) -> bytes: ...
    def __getitem__(self, place: int | slice, /) -> int | bytes:
        """A byte, or a copy of several."""
        ...

    def __buffer__(self, flags: int, /) -> memoryview:
        """The buffer itself."""
        ...


def uvarint(buffer: Source, position: int) -> tuple[int, int]:
    """The unsigned varint of at most 5 bytes at position, and the position after it."""
    first = buffer[position]
    if first < 128:
        return first, position + 1
    second = buffer[position + 1]
    if second < 128:
        return (first & 127) | second << 7, position + 2
    third = buffer[position + 2]
    if third < 128:
        return (first & 127) | (second & 127) << 7 | third << 14, position + 3
    fourth, low = buffer[position + 3], (first & 127) | (second & 127) << 7 | (third & 127) << 14
    if fourth < 128:
        return low | fourth << 21, position + 4
    fifth = buffer[position + 4]
    if fifth > 15:
        raise ProtocolError("a varint is longer than 32 bits")
    return low | (fourth & 127) << 21 | fifth << 28, position + 5


def uvarint_bytes(value: int) -> bytes:
    """The value as an unsigned varint."""
    if value < 128:
        return _ONE_BYTE[value]
    if value < 1 << 14:
        return bytes((value & 127 | 128, value >> 7))
    if value < 1 << 21:
        return bytes((value & 127 | 128, value >> 7 & 127 | 128, value >> 14))
    if value < 1 << 28:
        return bytes((value & 127 | 128, value >> 7 & 127 | 128, value >> 14 & 127 | 128, value >> 21))
    if value >= 1 << 32:
        raise OverflowError(f"{value} does not fit an unsigned varint")
    return bytes(
        (
            value & 127 | 128,
            value >> 7 & 127 | 128,
            value >> 14 & 127 | 128,
            value >> 21 & 127 | 128,
            value >> 28,
        )
    )


def cut_text(text: str) -> bytes:
    """As much of the text as a string holds."""
    data = text.encode()
    if len(data) <= STRING_BYTES_MAX:
        return data
    return data[:STRING_BYTES_MAX].decode(errors="ignore").encode()


def skip_tags(buffer: Source, position: int, end: int, count: int) -> int:
    """Where tagged fields nobody knows end; position is just after the byte that is their count."""
    if count > TAGS_MAX:
        raise too_many()
    for _ in range(count):
        position = uvarint(buffer, position)[1]
        size, position = uvarint(buffer, position)
        if size > end - position:
            raise too_long("tagged field", size, end - position)
        position += size
    return position


def too_long(name: str, size: int, left: int) -> ProtocolError:
    """The error for a length or count that is negative or does not fit what is left of the message."""
    if size < 0:
        return ProtocolError(f"{name} must not be null")
    return ProtocolError(f"{name} claims {size} where {max(left, 0)} bytes are left")


def too_many() -> ProtocolError:
    """The error for a message of more entries or tagged fields than anybody needs."""
    return ProtocolError(f"more than {ENTRIES_MAX} entries, or {TAGS_MAX} tagged fields in one place")


def take_room(room: int, count: int) -> int:
    """What is left of `room` entries when some are taken; ProtocolError when there are not so many."""
    if count > room:
        raise too_many()
    return room - count


def unsupported(name: str, version: int) -> KafkaError:
    """The error for a value that this version of the message cannot carry."""
    return KafkaError(UNSUPPORTED_VERSION, f"{name} cannot be expressed in version {version}")


_unpack_int32s = tuple(Struct(f">{count}i").unpack_from for count in range(9))
_pack_int32s = tuple(Struct(f">{count}i").pack for count in range(9))


def read_int32s(buffer: Source, position: int, count: int) -> list[int]:
    """The integers at position; the caller has checked that they fit."""
    if count < 9:
        return [*_unpack_int32s[count](buffer, position)]
    return [*Struct(f">{count}i").unpack_from(buffer, position)]


def int32s_bytes(values: list[int]) -> bytes:
    """The integers, without their count."""
    count = len(values)
    if count < 9:
        return _pack_int32s[count](*values)
    return Struct(f">{count}i").pack(*values)
