"""The header of a v2 record batch: parse, check, stamp.

    byte   field                    type   in CRC
       0   base offset              i64    no     stored by the log
       8   length after this field  i32    no
      12   partition leader epoch   i32    no     stored by the log
      16   magic (2)                i8     no
      17   CRC-32C of the rest      u32    no
      21   attributes               i16    yes    0-2 codec, 3 timestamp type, 4 transactional,
                                                 5 control, 6 delete horizon
      23   last offset delta        i32    yes
      27   base timestamp           i64    yes
      35   max timestamp            i64    yes
      43   producer id              i64    yes
      51   producer epoch           i16    yes
      53   base sequence            i32    yes
      57   record count             i32    yes
      61   records

The log never looks below byte 61 unless it must know single records: a batch is the unit of work.
"""

from collections.abc import Iterator
from struct import Struct

from msgspec import Struct as Record

from tailrace.core.errors import CORRUPT_MESSAGE, INVALID_RECORD, KafkaError
from tailrace.core.records.crc32c import crc32c

LENGTH_PREFIX = 12  # base offset and length: what the length does not count
ATTRIBUTES_AT = 21  # where the checked bytes start
MAX_TIMESTAMP_AT = 35
HEADER_SIZE = 61
MAGIC = 2

CODEC_MASK = 0x07
LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20
CODEC_COUNT = 5

NO_TIMESTAMP = -1
NO_PRODUCER_ID = -1
NO_PRODUCER_EPOCH = -1
NO_SEQUENCE = -1

HEADER = Struct(">qiibIhiqqqhii")
PREFIX = Struct(">qi")
UNCHECKED = Struct(">qiibI")  # the header up to the CRC: what the CRC does not cover, and itself
CHECKED = Struct(">hiqqqhii")  # the rest of it
INT32 = Struct(">i")
ATTRIBUTES = Struct(">h")
TIMESTAMP = Struct(">q")

Buffer = bytes | bytearray | memoryview


class BatchHeader(Record, kw_only=True, frozen=True):
    """The 61 bytes of a batch as numbers; `size` counts the whole batch."""

    base_offset: int
    size: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def last_offset(self) -> int:
        """Offset of the last record the batch had when it was written."""
        return self.base_offset + self.last_offset_delta

    @property
    def last_sequence(self) -> int:
        """Sequence number of the last record; numbers wrap to 0 after 2^31-1, as in Kafka."""
        return next_sequence(self.base_sequence, self.last_offset_delta)

    @property
    def codec(self) -> int:
        """0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."""
        return self.attributes & CODEC_MASK

    @property
    def is_control(self) -> bool:
        """Whether its records are markers of the log and not data."""
        return bool(self.attributes & CONTROL)

    @property
    def is_transactional(self) -> bool:
        """Whether it belongs to a transaction."""
        return bool(self.attributes & TRANSACTIONAL)


def next_sequence(base: int, delta: int) -> int:
    """The sequence number `delta` after `base`; they wrap to 0 after 2^31-1."""
    return (base + delta) & 0x7FFFFFFF if base >= 0 else base


def parse_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """The header at `position`; nothing is checked but that 61 bytes are there (struct.error otherwise)."""
    (
        base_offset, length, leader_epoch, magic, crc, attributes, last_offset_delta, base_timestamp,
        max_timestamp, producer_id, producer_epoch, base_sequence, record_count,
    ) = HEADER.unpack_from(buffer, position)  # fmt: skip
    return BatchHeader(
        base_offset=base_offset, size=length + LENGTH_PREFIX, leader_epoch=leader_epoch, magic=magic, crc=crc,
        attributes=attributes, last_offset_delta=last_offset_delta, base_timestamp=base_timestamp,
        max_timestamp=max_timestamp, producer_id=producer_id, producer_epoch=producer_epoch,
        base_sequence=base_sequence, record_count=record_count,
    )  # fmt: skip


def stated_size(data: Buffer, position: int = 0) -> int:
    """What the batch that begins there says of its size; its first 12 bytes are there."""
    return int(INT32.unpack_from(data, position + 8)[0]) + LENGTH_PREFIX


def whole_batches(data: memoryview) -> Iterator[memoryview]:
    """Those that lie in it from its beginning on, by their lengths alone; ends where one is not whole."""
    position, size = 0, len(data)
    while size - position >= HEADER_SIZE:
        end = position + stated_size(data, position)
        if not position + HEADER_SIZE <= end <= size:
            return
        yield data[position:end]
        position = end


def check_stored(buffer: memoryview, header: BatchHeader) -> str:
    """Why the batch in `buffer` (exactly its bytes) is no sound batch of a log; "" if it is one."""
    if header.magic != MAGIC:
        return f"magic {header.magic} is not 2"
    if header.size != len(buffer):
        return f"its length says {header.size} bytes, {len(buffer)} are there"
    if header.base_offset < 0 or header.last_offset_delta < 0:
        return "negative offsets"
    if header.record_count < 0 or header.record_count > header.last_offset_delta + 1:
        return f"{header.record_count} records in {header.last_offset_delta + 1} offsets"
    if crc32c(buffer[ATTRIBUTES_AT:]) != header.crc:
        return "its CRC does not match"
    return ""


def check_batch(source: Buffer) -> BatchHeader:
    """Checks a whole batch as a leader does before it appends: KafkaError with Kafka's code if unsound."""
    if len(source) < HEADER_SIZE:
        raise KafkaError(CORRUPT_MESSAGE, f"a record batch of {len(source)} bytes has no whole header")
    header = parse_header(source)
    if header.size != len(source):
        raise KafkaError(INVALID_RECORD, "exactly one whole record batch per partition is allowed")
    fault = header_fault(header.magic, header.attributes, header.last_offset_delta, header.record_count)
    if fault:
        raise KafkaError(INVALID_RECORD, fault)
    if crc32c(memoryview(source)[ATTRIBUTES_AT:]) != header.crc:
        raise KafkaError(CORRUPT_MESSAGE, "record batch CRC does not match")
    return header


def header_fault(magic: int, attributes: int, last_offset_delta: int, record_count: int) -> str:
    """Why Kafka's LogValidator refuses such a header from a client or a leader; "" if it does not."""
    if magic != MAGIC:
        return f"record batch magic {magic}: only version 2 is served"
    if last_offset_delta < 0:
        return f"invalid last offset delta {last_offset_delta}"
    if record_count != last_offset_delta + 1:
        return f"inconsistent batch: {record_count} records, last offset delta {last_offset_delta}"
    if attributes & CODEC_MASK >= CODEC_COUNT:
        return f"unknown compression codec {attributes & CODEC_MASK}"
    return ""


def stamp(batch: bytearray | memoryview, base_offset: int, leader_epoch: int) -> None:
    """Gives the batch its offset and epoch in place; neither is covered by the CRC."""
    batch[0:8] = base_offset.to_bytes(8, "big")
    batch[12:16] = INT32.pack(leader_epoch)
