"""What the process of a leader and that of a follower say to each other, through two byte rings.

A pair of processes has one ring each way for all partitions that it shares; a ring keeps the order of its
frames. Numbers are little-endian.

    byte  data frame (leader -> follower)
       0  kind              u8   INLINE: `length` bytes of batches follow; REFERENCE: they are in the leader's
                                 files
       1  flags             u8   GAPS: of a log that was compacted, offsets may be missing
       4  link              u32  names the partition; see LinkOpened
       8  base offset       i64  where this frame begins: the end offset of the one before
      16  end offset        i64  of the log after it
      24  segment           i64  base offset of the leader's segment that holds it
      32  position          i64  in that file
      40  length            i64
      48  high watermark    i64  the leader's
      56  log start offset  i64  the leader's
      64  whole batches, one after the other

    byte  high watermarks (leader -> follower), for those who have not heard by a data frame
       0  kind              u8
       4  count             u32
       8  count times: link, high watermark, log start offset, i64 each

A control frame is the kind and one of the messages below as msgpack. Whatever is not so is a FrameError.
"""

from collections.abc import Iterator
from struct import Struct

import msgspec

from tailrace.core.records.batch import HEADER_SIZE

INLINE = 1
REFERENCE = 2
HIGH_WATERMARKS = 3
CONTROL = 4

GAPS = 1

DATA = Struct("<BB2xI7q")
DATA_BYTES = DATA.size
INLINE_MAX = 8 * 1024  # above it a second copy costs more than to read the leader's file
_MARKS_HEAD = Struct("<B3xI")
_MARK = Struct("<3q")
MARKS_HEAD_BYTES, MARK_BYTES = _MARKS_HEAD.size, _MARK.size
UNSAID_MAX = 4096  # control frames that wait for room in a ring; then nothing more is read from that peer
MARKS_MAX = 1024  # in one frame
OFFSET_MAX = (1 << 63) - 1

DataFrame = tuple[int, int, int, int, int, int, int, int, int, int]
"""kind, flags, link, base offset, end offset, segment, position, length, high watermark, log start offset."""
Mark = tuple[int, int, int]
"""link, high watermark, log start offset."""

pack_data = DATA.pack
_unpack_data = DATA.unpack_from


class FrameError(ValueError):
    """Bytes that no sound process of this program has sent."""


class AskEpoch(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=1):
    """Follower: where does the largest epoch end that you know and that is not above mine?"""

    topic_id: bytes
    partition: int
    leader_epoch: int
    replica_id: int
    question: int  # which of this follower's questions; the answer names it
    epoch: int


class EpochEnd(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=2):
    """Leader: it is `epoch` and ends there; both -1 if there is none, or with an error (Kafka's code)."""

    topic_id: bytes
    partition: int
    leader_epoch: int
    question: int
    error: int = 0
    epoch: int = -1
    end_offset: int = -1


class OpenLink(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=3):
    """Follower: I have truncated, and end at `log_end_offset`; send what follows."""

    topic_id: bytes
    partition: int
    leader_epoch: int
    replica_id: int
    question: int
    log_end_offset: int


class LinkOpened(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=4):
    """Leader: from there on it comes under this number, which is also that of the word to acknowledge in."""

    topic_id: bytes
    partition: int
    leader_epoch: int
    question: int
    error: int = 0
    link: int = -1
    high_watermark: int = 0
    log_start_offset: int = 0


class CloseLink(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=5):
    """Follower: I store no more acknowledgements in that word."""

    link: int


class LinkBroken(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=6):
    """Leader: what comes next on this link is no longer in my files; ask anew."""

    link: int


Control = AskEpoch | EpochEnd | OpenLink | LinkOpened | CloseLink | LinkBroken

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Control).decode
_CONTROL = bytes([CONTROL])


def is_from_follower(frame: bytes) -> bool:
    """Whether a follower says this to its leader: a process may be both to another, and has one ring to it.
    The tags of what followers say are odd.
    """
    return len(frame) > 2 and frame[0] == CONTROL and frame[2] & 1 == 1


def encode_control(message: Control) -> bytes:
    """A control frame."""
    return _CONTROL + _encode(message)


def decode_control(frame: bytes) -> Control:
    """The message of a frame of kind CONTROL."""
    try:
        message: Control = _decode(memoryview(frame)[1:])
    except (msgspec.DecodeError, OverflowError) as error:
        raise FrameError(f"a control frame of {len(frame)} bytes: {error}") from error
    return message


def decode_data(frame: bytes) -> DataFrame:
    """The header of a frame of kind INLINE or REFERENCE; its numbers fit together."""
    size = len(frame)
    if size < DATA_BYTES:
        raise FrameError(f"a data frame of {size} bytes")
    header: DataFrame = _unpack_data(frame)
    kind, _, _, base, end, segment, position, length, mark, start = header
    if not 0 <= segment <= base < end or position < 0 or length < HEADER_SIZE or mark < 0 or start < 0:
        raise FrameError(f"a data frame that says {header}")
    if size != (DATA_BYTES + length if kind == INLINE else DATA_BYTES):
        raise FrameError(f"a data frame of {size} bytes that says {header}")
    return header


def encode_marks(marks: list[Mark]) -> bytes:
    """A frame of at most MARKS_MAX high watermarks."""
    return b"".join([_MARKS_HEAD.pack(HIGH_WATERMARKS, len(marks)), *(_MARK.pack(*mark) for mark in marks)])


def decode_marks(frame: bytes) -> Iterator[Mark]:
    """What a frame of kind HIGH_WATERMARKS holds."""
    if len(frame) < _MARKS_HEAD.size:
        raise FrameError(f"a frame of high watermarks of {len(frame)} bytes")
    _, count = _MARKS_HEAD.unpack_from(frame)
    if len(frame) != _MARKS_HEAD.size + count * _MARK.size:
        raise FrameError(f"a frame of {count} high watermarks of {len(frame)} bytes")
    marks: Iterator[Mark] = _MARK.iter_unpack(memoryview(frame)[_MARKS_HEAD.size :])
    return marks
