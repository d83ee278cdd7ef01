"""Batches that are stored in another codec than they were sent in: topics with compression.type other than
producer.

What Kafka's LogValidator does: the batch is opened, each record checked, and all are encoded anew, so that
what is stored is in its plainest form: offset deltas 0, 1, 2..., the first timestamp as the base, the latest
as the maximum, no attribute bits without a meaning. Most batches are in that form when they come; then their
record bytes are taken as they are, and only the codec changes. A batch that has the wanted codec stays as it
was sent.

The slow way of an append: a process whose topics say `producer` never comes here.
"""

from tailrace.core.errors import INVALID_RECORD, INVALID_TIMESTAMP, KafkaError
from tailrace.core.log.admission import check_header, check_time, check_time_claim
from tailrace.core.log.log_config import LogConfig
from tailrace.core.records.batch import (
    CONTROL,
    HEADER_SIZE,
    LOG_APPEND_TIME,
    NO_TIMESTAMP,
    TRANSACTIONAL,
    BatchHeader,
    Buffer,
    check_batch,
)
from tailrace.core.records.compression import GZIP, LZ4, NONE, SNAPPY, ZSTD, compress, decompress
from tailrace.core.records.record import INT64_MAX, NewRecord, assemble, decode_records, encode_record

TARGETS = {"uncompressed": NONE, "gzip": GZIP, "snappy": SNAPPY, "lz4": LZ4, "zstd": ZSTD}


def recompressed(source: Buffer, config: LogConfig, now_ms: int, *, from_client: bool) -> bytes | bytearray:
    """A batch as a log of this configuration stores it, its offset and epoch still to be stamped; KafkaError
    if it, or one of its records, is not sound. `source` may change meanwhile.
    """
    batch = bytes(source)  # (R) copy first and check the copy: the source may be a client's memory
    header = check_batch(batch)
    attributes = header.attributes
    claims = header.base_offset, header.magic, attributes, header.last_offset_delta, header.record_count
    check_header(claims, len(batch), config, from_client)
    target = TARGETS[config.compression_type]
    if header.codec == target or attributes & CONTROL:
        return batch
    if from_client:
        check_time_claim(attributes, config)
    try:
        plain = decompress(header.codec, batch[HEADER_SIZE:], config.max_decompressed_message_bytes)
        body, first, latest = _records(plain, header, config, now_ms if from_client else None)
    except KafkaError as error:  # a client that is told CORRUPT_MESSAGE would send it again
        code = INVALID_TIMESTAMP if error.code == INVALID_TIMESTAMP else INVALID_RECORD
        raise KafkaError(code, error.message) from error
    levels = {
        GZIP: config.compression_gzip_level,
        LZ4: config.compression_lz4_level,
        ZSTD: config.compression_zstd_level,
    }
    return assemble(
        compress(target, body, levels.get(target)), base_offset=0, leader_epoch=-1,
        attributes=target | attributes & TRANSACTIONAL, last_offset_delta=header.last_offset_delta,
        base_timestamp=first, max_timestamp=latest, producer_id=header.producer_id,
        producer_epoch=header.producer_epoch, base_sequence=header.base_sequence,
    )  # fmt: skip


def _records(
    plain: bytes, header: BatchHeader, config: LogConfig, now_ms: int | None
) -> tuple[bytes, int, int]:
    """The record bytes to store, the first timestamp and the latest. `now_ms`: what timestamps are held
    against; None if they need not be near it.
    """
    if not header.attributes & LOG_APPEND_TIME:
        earliest, latest = timestamp_deltas(plain, header.record_count)
        first, last = header.base_timestamp + earliest, header.base_timestamp + latest
        if earliest <= latest and first >= 0 and last <= INT64_MAX:  # (R) a sum that no header can hold
            if now_ms is not None:
                check_time(first, now_ms, config)
                check_time(last, now_ms, config)
            return plain, header.base_timestamp, last
    body = bytearray()
    base, latest = 0, NO_TIMESTAMP
    for number, record in enumerate(decode_records(plain, header)):
        if now_ms is not None:
            check_time(record.timestamp, now_ms, config)
        if not NO_TIMESTAMP <= record.timestamp < INT64_MAX:  # or its distance from -1 is in no 64 bits
            raise KafkaError(INVALID_RECORD, f"a record with timestamp {record.timestamp}")
        if not number:
            base = record.timestamp
        latest = max(latest, record.timestamp)
        again = NewRecord(key=record.key, value=record.value, headers=record.headers)
        encode_record(body, number, record.timestamp - base, again)
    return bytes(body), base, latest


def timestamp_deltas(plain: bytes, count: int) -> tuple[int, int]:
    """The smallest and the largest timestamp delta of so many records in their plainest form, which these
    bytes are; (1, 0) if they are not in that form, or not sound.
    """
    try:
        return _walk(plain, count)
    except (ValueError, IndexError):
        return 1, 0


def _walk(data: bytes, count: int) -> tuple[int, int]:
    """The same; ValueError or IndexError at the first record that is not in its plainest form: another offset
    delta than its place, attributes, a number in more bytes than it takes.

    Numbers are compared as they are coded, zigzag: a length is even, and 1 is the -1 of a null.
    """
    position = lowest = highest = 0
    for number in range(count):
        length = data[position]
        position += 1
        if length >= 0x80:
            length, position = _wide(data, position, length)
        end = position + (length >> 1)
        time = data[position + 1]
        if length & 1 or data[position] or (time and not number):
            raise ValueError
        position += 2
        if time >= 0x80:
            if 0 < (byte := data[position]) < 0x80:  # two bytes are frequent
                time += (byte - 1) << 7
                position += 1
            else:
                time, position = _wide(data, position, time)
        if time & 1:
            lowest = min(lowest, -(time >> 1) - 1)
        elif time > highest:
            highest = time
        offset = data[position]
        position += 1
        if offset >= 0x80:
            if 0 < (byte := data[position]) < 0x80:
                offset += (byte - 1) << 7
                position += 1
            else:
                offset, position = _wide(data, position, offset)
        key = data[position]
        if key >= 0x80 or key & 1:
            position = _skip(data, position)
        else:
            position += 1 + (key >> 1)
        value = data[position]
        if value >= 0x80 or value & 1:
            position = _skip(data, position)
        else:
            position += 1 + (value >> 1)
        position = _skip_headers(data, position) if data[position] else position + 1
        if position != end or offset != 2 * number:
            raise ValueError
    if position != len(data):
        raise ValueError
    return lowest, highest >> 1


def _wide(data: bytes, position: int, first: int) -> tuple[int, int]:
    """The number of several bytes whose first one comes before `position`, and the place after it."""
    byte = data[position]
    if 0 < byte < 0x80:
        return first + ((byte - 1) << 7), position + 1
    number, shift = first & 0x7F, 7
    while shift < 70:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if not byte or number >> 64:  # in more bytes than it takes, or too large
                raise ValueError
            return number, position
        shift += 7
    raise ValueError


def _skip(data: bytes, position: int) -> int:
    """The place behind a key or value."""
    length = data[position]
    position += 1
    if length >= 0x80:
        length, position = _wide(data, position, length)
    if length & 1:
        if length > 1:
            raise ValueError
        return position
    return position + (length >> 1)


def _skip_headers(data: bytes, position: int) -> int:
    """The place behind the headers, of which there is at least one."""
    count = data[position]
    position += 1
    if count >= 0x80:
        count, position = _wide(data, position, count)
    if count & 1:
        raise ValueError
    for _ in range(count >> 1):
        if data[position] == 1:  # a key that is null
            raise ValueError
        position = _skip(data, _skip(data, position))
    return position
