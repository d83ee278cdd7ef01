"""What a log refuses of a batch besides a bad checksum: the checks off the common path of an append."""

from struct import Struct

from tailrace.core.errors import (
    CORRUPT_MESSAGE,
    INVALID_RECORD,
    INVALID_TIMESTAMP,
    MESSAGE_TOO_LARGE,
    RECORD_LIST_TOO_LARGE,
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    UNSUPPORTED_COMPRESSION_TYPE,
    KafkaError,
)
from tailrace.core.log.log_config import LogConfig
from tailrace.core.log.segment import ActiveSegment
from tailrace.core.protocol.primitives import Source
from tailrace.core.records.batch import (
    ATTRIBUTES,
    ATTRIBUTES_AT,
    CODEC_MASK,
    CONTROL,
    HEADER_SIZE,
    INT32,
    LENGTH_PREFIX,
    LOG_APPEND_TIME,
    MAGIC,
    MAX_TIMESTAMP_AT,
    NO_TIMESTAMP,
    TIMESTAMP,
    TRANSACTIONAL,
    header_fault,
)

RECORD_SIZE_MIN = 7  # one byte for each field of a record
EXPANSION_MAX = (1, 1032, 22, 255, 32768)
"""How many bytes one byte of a codec can become: gzip 258 from 2 bits, snappy 64 from 3 bytes, lz4 255 from
each byte of a length, zstd a block of 128 KiB from 4 bytes."""


ZSTD = 4
ZSTD_SINCE = 7  # the version of Produce
ENTRY_SIZE_MIN = 14  # what a message of format 0 takes after its length
_read_entry = Struct(">8xi4xb").unpack_from
_ENTRY_HEAD = 17


def is_plain(records: Source, position: int, length: int, version: int) -> bool:
    """Whether a Produce request's records of a partition are one batch of format 2 and nothing behind it."""
    if length < HEADER_SIZE:
        return False
    size, magic = _read_entry(records, position)
    if size != length - LENGTH_PREFIX or magic != MAGIC:
        return False
    return version >= ZSTD_SINCE or records[position + ATTRIBUTES_AT + 1] & CODEC_MASK != ZSTD


def whole_batch(records: Source, position: int, length: int, version: int) -> int:
    """The length of the one batch that such records hold, for those that are not plain; KafkaError, with the
    message if Kafka has one, where Kafka refuses them. What follows and is no whole batch is left out, as
    Kafka does.
    """
    size = _entry_size(records, position, length)
    try:
        is_alone = not _entry_size(records, position + size, length - size)
    except KafkaError as error:
        raise KafkaError(error.code) from error
    if not size or not is_alone:
        raise KafkaError(INVALID_RECORD)
    if _read_entry(records, position)[1] != MAGIC:
        raise KafkaError(INVALID_RECORD)
    if size < HEADER_SIZE:
        raise KafkaError(CORRUPT_MESSAGE)
    if version < ZSTD_SINCE and records[position + ATTRIBUTES_AT + 1] & CODEC_MASK == ZSTD:
        raise KafkaError(UNSUPPORTED_COMPRESSION_TYPE)
    return size


def _entry_size(records: Source, position: int, length: int) -> int:
    """How long the batch or message there is; 0 if none is there as a whole."""
    if length < LENGTH_PREFIX:
        return 0
    (size,) = INT32.unpack(records[position + 8 : position + LENGTH_PREFIX])
    if size < ENTRY_SIZE_MIN:
        fault = f"Record size {size} is less than the minimum record overhead ({ENTRY_SIZE_MIN})"
        raise KafkaError(CORRUPT_MESSAGE, fault)
    if length < _ENTRY_HEAD:
        return 0
    magic = _read_entry(records, position)[1]
    if not 0 <= magic <= MAGIC:
        raise KafkaError(CORRUPT_MESSAGE, f"Invalid magic found in record: {magic}")
    return size + LENGTH_PREFIX if size + LENGTH_PREFIX <= length else 0


def unsound(length: int, size: int) -> KafkaError:
    """Of `size` bytes that begin with a batch of this length field, and are not just that batch."""
    if length != size - LENGTH_PREFIX:
        return KafkaError(INVALID_RECORD, "exactly one whole record batch per partition is allowed")
    return KafkaError(CORRUPT_MESSAGE, "record batch CRC does not match")


def check_sizes(size: int, config: LogConfig) -> None:
    """A batch that no log of this configuration takes."""
    if size < HEADER_SIZE:
        raise KafkaError(CORRUPT_MESSAGE, f"a record batch of {size} bytes has no whole header")
    if size > config.max_message_bytes:
        raise KafkaError(
            MESSAGE_TOO_LARGE,
            f"a record batch of {size} bytes exceeds max.message.bytes {config.max_message_bytes}",
        )
    if size > config.segment_bytes:
        raise KafkaError(
            RECORD_LIST_TOO_LARGE,
            f"a record batch of {size} bytes exceeds segment.bytes {config.segment_bytes}",
        )


def check_header(
    fields: tuple[int, int, int, int, int], size: int, config: LogConfig, from_client: bool
) -> None:
    """The header fields of a batch of `size` bytes: base offset, magic, attributes, last offset delta, count.

    A batch takes as many offsets as it claims records, so the claim is bounded, without decompressing: each
    record is at least 7 bytes, and the records together are at most what this codec can make of the payload,
    and what this broker will ever decompress.
    """
    base_offset, magic, attributes, delta, count = fields
    fault = header_fault(magic, attributes, delta, count)
    if from_client and base_offset:
        fault = f"a client's batch begins at offset 0, not {base_offset}"
    if fault:
        raise KafkaError(INVALID_RECORD, fault)
    if from_client and attributes & CONTROL:
        raise KafkaError(INVALID_RECORD, "clients are not allowed to write control records")
    if from_client and attributes & TRANSACTIONAL:
        raise KafkaError(
            TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "the record batch is not part of an ongoing transaction"
        )
    codec = attributes & CODEC_MASK
    payload = size - HEADER_SIZE
    plain = payload * EXPANSION_MAX[codec]
    if codec:
        plain = min(plain, config.max_decompressed_message_bytes)
    if count * RECORD_SIZE_MIN > plain:
        raise KafkaError(INVALID_RECORD, f"{count} records cannot fit into {payload} bytes")


def check_time_claim(attributes: int, config: LogConfig) -> None:
    """A client's batch must not say that it has the broker's time where it is the broker that gives it."""
    if config.message_timestamp_type == "LogAppendTime" and attributes & LOG_APPEND_TIME:
        raise KafkaError(INVALID_TIMESTAMP, "a client's batch says that it has the broker's time")


def check_time(timestamp: int, now_ms: int, config: LogConfig) -> None:
    """A client's timestamp must not be too far from now, where it is kept."""
    if timestamp == NO_TIMESTAMP or config.message_timestamp_type == "LogAppendTime":
        return
    oldest = now_ms - config.message_timestamp_before_max_ms
    newest = now_ms + config.message_timestamp_after_max_ms
    if not oldest <= timestamp <= newest:
        raise KafkaError(
            INVALID_TIMESTAMP, f"timestamp {timestamp} is out of the range allowed around {now_ms}"
        )


def stamp_time(
    active: ActiveSegment, attributes: int, timestamp: int, now_ms: int, config: LogConfig,
    from_client: bool,
) -> int:  # fmt: skip
    """The time of the batch copied to the end of the segment, checked or replaced.

    LogAppendTime: it takes the broker's time, which it must not claim to have already; CreateTime: the claim
    is taken back. Both are in the CRC, which the caller makes anew.
    """
    file, start = active.file, active.end
    if from_client:
        check_time_claim(attributes, config)
        check_time(timestamp, now_ms, config)
    if config.message_timestamp_type == "LogAppendTime":
        wanted, timestamp = attributes | LOG_APPEND_TIME, now_ms
        file.store(start + MAX_TIMESTAMP_AT, TIMESTAMP.pack(timestamp))
    else:
        wanted = attributes & ~LOG_APPEND_TIME
        if wanted == attributes:
            return timestamp
    file.store(start + ATTRIBUTES_AT, ATTRIBUTES.pack(wanted))
    return timestamp
