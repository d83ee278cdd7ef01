"""OffsetDelete (47): forget committed offsets of topics that the group no longer reads."""

from msgspec import Struct

from tailrace.core.protocol.schema import (
    NEVER,
    Int16,
    Int32,
    String,
    message,
)


class OffsetDeleteRequestPartition(Struct, gc=False):
    """A partition whose offset goes."""

    partition_index: Int32 = 0


class OffsetDeleteRequestTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: String = ""
    partitions: list[OffsetDeleteRequestPartition] = []


@message(versions=(0, 0), flexible=NEVER)
class OffsetDeleteRequest(Struct, gc=False):
    """Which offsets."""

    group_id: String = ""
    topics: list[OffsetDeleteRequestTopic] = []


class OffsetDeleteResponsePartition(Struct, gc=False):
    """What became of one offset."""

    partition_index: Int32 = 0
    error_code: Int16 = 0


class OffsetDeleteResponseTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: String = ""
    partitions: list[OffsetDeleteResponsePartition] = []


@message(versions=(0, 0), flexible=NEVER)
class OffsetDeleteResponse(Struct, gc=False):
    """The answer."""

    error_code: Int16 = 0
    throttle_time_ms: Int32 = 0
    topics: list[OffsetDeleteResponseTopic] = []
