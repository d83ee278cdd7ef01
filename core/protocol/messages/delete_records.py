"""DeleteRecords (21): records before an offset go; -1 means up to the high watermark."""

from msgspec import Struct

from tailrace.core.protocol.schema import (
    Int16,
    Int32,
    Int64,
    String,
    message,
)


class DeleteRecordsRequestPartition(Struct, gc=False):
    """The first offset to keep."""

    partition_index: Int32 = 0
    offset: Int64 = 0


class DeleteRecordsRequestTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: String = ""
    partitions: list[DeleteRecordsRequestPartition] = []


@message(versions=(0, 2), flexible=2)
class DeleteRecordsRequest(Struct, gc=False):
    """Which records."""

    topics: list[DeleteRecordsRequestTopic] = []
    timeout_ms: Int32 = 0


class DeleteRecordsResponsePartition(Struct, gc=False):
    """The first offset that is left."""

    partition_index: Int32 = 0
    low_watermark: Int64 = 0
    error_code: Int16 = 0


class DeleteRecordsResponseTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: String = ""
    partitions: list[DeleteRecordsResponsePartition] = []


@message(versions=(0, 2), flexible=2)
class DeleteRecordsResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Int32 = 0
    topics: list[DeleteRecordsResponseTopic] = []
