"""Records inside a batch: varints, keys, values, headers, both ways.

    record = length varint, then: attributes i8, timestamp delta varlong, offset delta varint, key and value
    each a varint length (-1: none) with bytes, header count varint, headers each a key (varint length, UTF-8)
    and a value

Varints are zigzag coded. Everything that is read is checked against the end of the batch: records come from
clients.
"""

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct as Record

from tailrace.core.errors import CORRUPT_MESSAGE, INVALID_RECORD, KafkaError
from tailrace.core.records.batch import (
    CODEC_MASK,
    CONTROL,
    HEADER,
    HEADER_SIZE,
    LENGTH_PREFIX,
    LOG_APPEND_TIME,
    MAGIC,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    TRANSACTIONAL,
    BatchHeader,
    Buffer,
    parse_header,
)
from tailrace.core.records.compression import compress, decompress
from tailrace.core.records.crc32c import crc32c

DECOMPRESSED_BYTES_MAX = 256 * 1024 * 1024
UINT64_MAX = 0xFFFF_FFFF_FFFF_FFFF
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

Headers = Sequence[tuple[str, bytes | None]]


class DecodedRecord(Record, kw_only=True, frozen=True):
    """One record with its absolute offset and timestamp."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    size: int = 0


class NewRecord(Record, kw_only=True, frozen=True):
    """One record to be put into a batch."""

    key: bytes | None = None
    value: bytes | None = None
    timestamp: int = 0
    headers: tuple[tuple[str, bytes | None], ...] = ()


def read_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The zigzag number at `position` and the place after it; KafkaError if none is there."""
    shift = result = 0
    while position < end and shift < 70:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            if result > UINT64_MAX:
                break
            return (result >> 1) ^ -(result & 1), position
        shift += 7
    raise KafkaError(CORRUPT_MESSAGE, "no varint of at most 64 bits ends inside its record batch")


def write_varint(out: bytearray, value: int) -> None:
    """Appends a number as a zigzag varint (at most 64 bits)."""
    value = (value << 1) ^ (value >> 63)
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _read_bytes(data: bytes, position: int, end: int) -> tuple[bytes | None, int]:
    length, position = read_varint(data, position, end)
    if length < 0:
        return None, position
    if length > end - position:
        raise KafkaError(INVALID_RECORD, "a key or value reaches past its record")
    return data[position : position + length], position + length


def _read_headers(data: bytes, position: int, end: int) -> tuple[tuple[tuple[str, bytes | None], ...], int]:
    count, position = read_varint(data, position, end)
    if count < 0 or count > end - position:  # each takes at least two bytes: no loop for an invented count
        raise KafkaError(INVALID_RECORD, f"a record cannot hold {count} headers")
    return read_headers(data, position, end, count)


def read_headers(
    data: bytes, position: int, end: int, count: int
) -> tuple[tuple[tuple[str, bytes | None], ...], int]:
    """So many headers from `position` on, and the place after them; KafkaError if they are not there."""
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        name, position = _read_bytes(data, position, end)
        if name is None:
            raise KafkaError(INVALID_RECORD, "a record header without a key")
        value, position = _read_bytes(data, position, end)
        headers.append((name.decode("utf-8", "replace"), value))
    return tuple(headers), position


def decode_records(data: bytes, header: BatchHeader) -> Iterator[DecodedRecord]:
    """The records in the plain bytes after a header; KafkaError where they are not what the header says."""
    position, size = 0, len(data)
    append_time = header.max_timestamp if header.attributes & LOG_APPEND_TIME else None
    for _ in range(header.record_count):
        start = position
        length, position = read_varint(data, position, size)
        if length < 0 or length > size - position:
            raise KafkaError(INVALID_RECORD, f"a record of {length} bytes reaches past its batch")
        end = position + length
        timestamp_delta, position = read_varint(data, position + 1, end)  # one byte of unused attributes
        offset_delta, position = read_varint(data, position, end)
        key, position = _read_bytes(data, position, end)
        value, position = _read_bytes(data, position, end)
        headers, position = _read_headers(data, position, end)
        if position != end:
            raise KafkaError(INVALID_RECORD, "a record ends before its length does")
        offset = header.base_offset + offset_delta
        timestamp = header.base_timestamp + timestamp_delta if append_time is None else append_time
        if not (0 <= offset <= INT64_MAX and INT64_MIN <= timestamp <= INT64_MAX):
            raise KafkaError(INVALID_RECORD, f"a record at offset {offset}, timestamp {timestamp}")
        yield DecodedRecord(
            offset=offset, timestamp=timestamp, key=key, value=value, headers=headers, size=end - start
        )  # fmt: skip
    if position != size:
        raise KafkaError(INVALID_RECORD, "bytes follow the last record of a batch")


def iterate_batch(batch: Buffer, *, limit: int = DECOMPRESSED_BYTES_MAX) -> Iterator[DecodedRecord]:
    """The records of one whole batch, decompressed to at most `limit` bytes."""
    header = parse_header(batch)
    body = bytes(memoryview(batch)[HEADER_SIZE : header.size])
    return decode_records(decompress(header.codec, body, limit), header)


def iterate_batches(
    data: Buffer, *, limit: int = DECOMPRESSED_BYTES_MAX
) -> Iterator[tuple[BatchHeader, Iterator[DecodedRecord]]]:
    """Each whole batch of a fetched range; a batch cut short at the end is left out, as every client does."""
    position, size = 0, len(data)
    view = memoryview(data)
    while size - position >= HEADER_SIZE:
        header = parse_header(data, position)
        if header.size < HEADER_SIZE or header.magic != MAGIC:
            raise KafkaError(CORRUPT_MESSAGE, f"no v2 record batch at byte {position}")
        if header.size > size - position:
            return
        yield header, iterate_batch(view[position : position + header.size], limit=limit)
        position += header.size


def encode_record(out: bytearray, offset_delta: int, timestamp_delta: int, record: NewRecord) -> None:
    """Appends one record in the format of v2."""
    body = bytearray(1)
    write_varint(body, timestamp_delta)
    write_varint(body, offset_delta)
    for part in (record.key, record.value):
        write_varint(body, -1 if part is None else len(part))
        body += part or b""
    write_varint(body, len(record.headers))
    for name, value in record.headers:
        encoded = name.encode()
        write_varint(body, len(encoded))
        body += encoded
        write_varint(body, -1 if value is None else len(value))
        body += value or b""
    write_varint(out, len(body))
    out += body


def build_batch(
    records: Iterable[NewRecord], *, base_offset: int = 0, leader_epoch: int = -1, codec: int = 0,
    producer_id: int = NO_PRODUCER_ID, producer_epoch: int = NO_PRODUCER_EPOCH,
    base_sequence: int = NO_SEQUENCE, transactional: bool = False, control: bool = False,
) -> bytearray:  # fmt: skip
    """A whole batch, CRC included; at least one record."""
    items = list(records)
    assert items, "a batch without records is never written"
    base_timestamp = items[0].timestamp
    body = bytearray()
    for delta, record in enumerate(items):
        encode_record(body, delta, record.timestamp - base_timestamp, record)
    attributes = codec & CODEC_MASK | (TRANSACTIONAL if transactional else 0) | (CONTROL if control else 0)
    payload = compress(codec, bytes(body)) if codec else bytes(body)
    return assemble(
        payload, base_offset=base_offset, leader_epoch=leader_epoch, attributes=attributes,
        last_offset_delta=len(items) - 1, base_timestamp=base_timestamp,
        max_timestamp=max(record.timestamp for record in items), producer_id=producer_id,
        producer_epoch=producer_epoch, base_sequence=base_sequence,
    )  # fmt: skip


def assemble(
    payload: bytes, *, base_offset: int, leader_epoch: int, attributes: int, last_offset_delta: int,
    base_timestamp: int, max_timestamp: int, producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_PRODUCER_EPOCH, base_sequence: int = NO_SEQUENCE,
) -> bytearray:  # fmt: skip
    """A batch around record bytes that are encoded (and compressed) already."""
    batch = bytearray(
        HEADER.pack(
            base_offset, HEADER_SIZE - LENGTH_PREFIX + len(payload), leader_epoch, MAGIC, 0, attributes,
            last_offset_delta, base_timestamp, max_timestamp, producer_id, producer_epoch, base_sequence,
            last_offset_delta + 1,
        )
    )  # fmt: skip
    batch += payload
    batch[17:21] = crc32c(memoryview(batch)[21:]).to_bytes(4, "big")
    return batch
