"""What a log is told by its topic's configuration; names are Kafka's with underscores."""

from msgspec import Struct

FOREVER = 0x7FFFFFFFFFFFFFFF
PRODUCER = "producer"  # the compression.type that leaves batches as they were sent


class LogConfig(Struct, kw_only=True, frozen=True):
    """Defaults are Kafka's."""

    segment_bytes: int = 1 << 30
    segment_ms: int = 7 * 24 * 3600 * 1000
    segment_jitter_ms: int = 0
    segment_index_bytes: int = 10 * 1024 * 1024
    preallocate: bool = False
    index_interval_bytes: int = 4096
    flush_messages: int = FOREVER
    flush_ms: int = FOREVER
    max_message_bytes: int = 1048588
    compression_type: str = PRODUCER
    compression_gzip_level: int = -1
    compression_lz4_level: int = 9
    compression_zstd_level: int = 3
    message_timestamp_type: str = "CreateTime"
    message_timestamp_before_max_ms: int = FOREVER
    message_timestamp_after_max_ms: int = 3600 * 1000
    max_decompressed_message_bytes: int = 256 * 1024 * 1024
    producer_id_expiration_ms: int = 24 * 3600 * 1000
    snapshot_interval_bytes: int = 32 * 1024 * 1024
