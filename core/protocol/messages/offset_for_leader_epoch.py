"""OffsetForLeaderEpoch (23): where the records of a leader epoch end.

Version 3 brought the replica id; -1 is a consumer, -2 a request that does not say.
"""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    Int16,
    Int32,
    Int64,
    String,
    message,
    since,
)


class OffsetForLeaderEpochRequestPartition(Struct, gc=False):
    """A partition, and the epoch to look up."""

    partition: Int32 = 0
    current_leader_epoch: Int32 = -1
    leader_epoch: Int32 = 0


class OffsetForLeaderEpochRequestTopic(Struct, gc=False):
    """The partitions of one topic."""

    topic: String = ""
    partitions: list[OffsetForLeaderEpochRequestPartition] = []


@message(versions=(2, 4), flexible=4)
class OffsetForLeaderEpochRequest(Struct, gc=False):
    """Which epochs."""

    replica_id: Annotated[Int32, since(3), IGNORABLE] = -2
    topics: list[OffsetForLeaderEpochRequestTopic] = []


class OffsetForLeaderEpochResponsePartition(Struct, gc=False):
    """The largest epoch not after the one asked for, and the offset after its last record; -1 if unknown."""

    error_code: Int16 = 0
    partition: Int32 = 0
    leader_epoch: Int32 = -1
    end_offset: Int64 = -1


class OffsetForLeaderEpochResponseTopic(Struct, gc=False):
    """The partitions of one topic."""

    topic: String = ""
    partitions: list[OffsetForLeaderEpochResponsePartition] = []


@message(versions=(2, 4), flexible=4)
class OffsetForLeaderEpochResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Int32 = 0
    topics: list[OffsetForLeaderEpochResponseTopic] = []
