"""Messages of the declarations with values at the edges, as bytes of which each length is known, and damaged.

A `Drafted` body is written by a walk over the declaration, not by the encoders under test; beside its bytes
it holds a `Mark` for every length, count and tag count. `damaged` breaks one thing of it.
"""

import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from msgspec import Struct

from tailrace.core.protocol.generated import split_fields
from tailrace.core.protocol.schema import FACTS, FIXED, Field

HUGE = 2**31 - 1
EDGES = {
    "int8": (0, 1, -1, -128, 127),
    "int16": (0, 1, -1, -2, -(2**15), 2**15 - 1),
    "uint16": (0, 1, 2**16 - 1),
    "int32": (0, 1, -1, -2, 7, -(2**31), HUGE),
    "int64": (0, 1, -1, -2, -3, -6, 1_700_000_000_000, -(2**63), 2**63 - 1),
    "float64": (0.0, -1.0, float("nan"), float("inf")),
}
TEXTS = (
    "",
    "a",
    "t",
    "..",
    "a/b",
    "nul\0",
    "x" * 249,
    "y" * 250,
    "grün",
    "*",
    "__internal",
    "z" * 32_767,
)
COUNTS = (0, 0, 1, 1, 1, 2, 3)
FAR_COUNT = 300  # of elements, now and then
FAR_DEPTH = 1  # only outside: three such arrays in each other make a message too long
BYTES = (0, 1, 61, 127, 128, 700)


class Mark(NamedTuple):
    """Where a length, a count or a count of tags stands, and how: v (varint), h or i (classic)."""

    position: int
    size: int
    form: str
    value: int
    is_tags: bool = False


class Values:
    """Where strings, ids and numbers of a field come from: what exists in the broker, or anything."""

    def __init__(
        self, names: Sequence[str] = (), ids: Sequence[bytes] = (), **fields: Sequence[object]
    ) -> None:
        self.names = names  # topics and groups that exist
        self.ids = ids
        self.fields = fields  # values of fields of this name

    def of(self, field: Field, name: str, random: Random) -> object:
        """A value for a field without parts."""
        if name in self.fields and random.random() < 0.8:
            return random.choice(self.fields[name])
        if field.kind == "string":
            return random.choice(self.names if self.names and random.random() < 0.6 else TEXTS)
        if field.kind == "uuid":
            known = self.ids and random.random() < 0.6
            return random.choice(self.ids) if known else random.choice((bytes(16), random.randbytes(16)))
        if field.kind == "bool":
            return random.random() < 0.5
        if field.kind in EDGES:
            return random.choice(EDGES[field.kind])
        return random.randbytes(random.choice(BYTES))


class Drafted:
    """The bytes of a body, with a mark for each length in it."""

    def __init__(self, cls: type[Struct], version: int, random: Random, values: Values | None = None) -> None:
        self.body = bytearray()
        self.marks: list[Mark] = []
        self._version = version
        self._flexible = version >= FACTS[cls].flexible
        self._random = random
        self._values = values or Values()
        self._message(cls, 0)

    def _message(self, cls: type[Struct], depth: int) -> None:
        plain, tagged = split_fields(cls, self._version)
        for field in plain:
            self._field(field, field.name, depth)
        if not self._flexible:
            return
        present = [field for field in tagged if self._random.random() < 0.3]
        unknown = self._random.choice((0, 0, 0, 0, 1))
        self._length("v", len(present) + unknown, is_tags=True)
        for field in present:
            self.body += varint(field.tag)
            at = len(self.body)
            before, self.marks = self.marks, []
            self.body, kept = bytearray(), self.body
            self._field(field, field.name, depth)
            kept += varint(len(self.body))
            shift = len(kept)
            size = Mark(at, shift - at, "v", len(self.body))
            inner = [mark._replace(position=mark.position + shift) for mark in self.marks]
            self.body, self.marks = kept + self.body, [*before, size, *inner]
        if unknown:
            self.body += b"\x63\x02ab"

    def _field(self, field: Field, name: str, depth: int) -> None:
        random = self._random
        if field.kind in FIXED:
            value = self._values.of(field, name, random)
            self.body += struct.pack(">" + FIXED[field.kind][0], value)
            return
        is_null = field.null_since <= self._version and random.random() < 0.2
        if field.kind == "struct":
            assert field.struct is not None
            if field.null_since <= self._version:
                self.body.append(0 if is_null and field.tag >= 0 else 255 if is_null else 1)
            if not is_null:
                self._message(field.struct, depth)
            return
        if field.kind == "array":
            self._array(field, name, depth, is_null=is_null)
            return
        if is_null:
            self._length(self._form(field.kind), -1)
            return
        value = self._values.of(field, name, random)
        data = value.encode() if isinstance(value, str) else value
        assert isinstance(data, bytes)
        self._length(self._form(field.kind), len(data))
        self.body += data

    def _array(self, field: Field, name: str, depth: int, *, is_null: bool) -> None:
        count = self._random.choice(COUNTS)
        if depth < FAR_DEPTH and self._random.random() < 0.01:
            count = FAR_COUNT
        self._length(self._form("array"), -1 if is_null else count)
        assert field.item is not None
        for _ in range(0 if is_null else count):
            self._field(field.item, name, depth + 1)

    def _form(self, kind: str) -> str:
        return "v" if self._flexible else "h" if kind == "string" else "i"

    def _length(self, form: str, value: int, *, is_tags: bool = False) -> None:
        data = varint(value + (not is_tags)) if form == "v" else struct.pack(">" + form, value)
        self.marks.append(Mark(len(self.body), len(data), form, value, is_tags))
        self.body += data


def varint(value: int) -> bytes:
    """An unsigned varint, by the book."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


OVERLONG = (
    b"\x80\x00", b"\x81\x80\x00", b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x07", b"\xff\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff\xff\x01", b"\x80" * 10, b"\xff" * 10,
)  # fmt: skip


def _cut(body: bytearray, _marks: Sequence[Mark], random: Random) -> None:
    del body[random.randrange(len(body) + 1) :]


def _flip(body: bytearray, _marks: Sequence[Mark], random: Random) -> None:
    for _ in range(random.choice((1, 1, 2, 5))):
        if body:
            body[random.randrange(len(body))] ^= 1 << random.randrange(8)


def _overwrite(body: bytearray, _marks: Sequence[Mark], random: Random) -> None:
    if body:
        at = random.randrange(len(body))
        body[at : at + 4] = random.choice((b"\xff" * 4, b"\0" * 4, b"\x80", b"\xc3\x28", b"\x7f\xff\xff\xff"))


def _relength(body: bytearray, marks: Sequence[Mark], random: Random) -> None:
    """A length that is not that of what follows."""
    if not marks:
        return
    mark = random.choice(marks)
    left = len(body) - mark.position - mark.size
    wanted = random.choice(
        (-2, -1, 0, 1, mark.value - 1, mark.value + 1, left, left + 1, 127, 128, 32_768, 49_999, 2**24, HUGE)
    )
    if mark.form == "v":
        new = (
            varint(max(0, wanted + (not mark.is_tags))) if random.random() < 0.7 else random.choice(OVERLONG)
        )
    elif mark.form == "h":
        new = struct.pack(">h", max(-(2**15), min(2**15 - 1, wanted)))
    else:
        new = struct.pack(">i", wanted)
    body[mark.position : mark.position + mark.size] = new


def _retag(body: bytearray, marks: Sequence[Mark], random: Random) -> None:
    """More tagged fields than there were: unknown ones, the same twice, sizes that lie."""
    counts = [mark for mark in marks if mark.is_tags and mark.value < 100]
    if not counts:
        return
    mark = random.choice(counts)
    number, size = random.choice((0, 0, 1, 2, 99, 2**31)), random.choice((0, 1, 2, 5, 200, 2**32 - 1))
    more = random.choice((1, 2, 20))
    section = (varint(number) + varint(size) + random.randbytes(min(size, 5))) * more
    body[mark.position : mark.position + mark.size] = varint(mark.value + more) + section


def _append(body: bytearray, _marks: Sequence[Mark], random: Random) -> None:
    body += random.randbytes(random.choice((1, 4, 40)))


def _repeat(body: bytearray, _marks: Sequence[Mark], random: Random) -> None:
    """A piece of it again, where it was."""
    start = random.randrange(len(body) + 1)
    piece = body[start : start + random.choice((1, 8, 40))]
    body[start:start] = piece * random.choice((1, 3, 50))


Damage = Callable[[bytearray, Sequence[Mark], Random], None]
DAMAGES: tuple[Damage, ...] = (
    _cut,
    _flip,
    _overwrite,
    _relength,
    _relength,
    _relength,
    _retag,
    _append,
    _repeat,
)


def damaged(draft: Drafted, random: Random) -> bytes:
    """The body with one or two things broken."""
    body = bytearray(draft.body)
    random.choice(DAMAGES)(body, draft.marks, random)
    if random.random() < 0.2:  # the marks are no longer where they say, which is as good a damage
        random.choice(DAMAGES)(body, (), random)
    return bytes(body)
