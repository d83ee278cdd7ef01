"""ListOffsets (2): the offset at a timestamp.

Negative timestamps ask for places: -1 the end, -2 the start, -3 the record of the largest timestamp (7), -4
the local start (8), -5 the end of the tiered part (9), -6 the earliest offset not yet tiered (11).
"""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    Int8,
    Int16,
    Int32,
    Int64,
    String,
    message,
    since,
)

LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL = -4
LATEST_TIERED = -5
EARLIEST_PENDING_UPLOAD = -6


class ListOffsetsRequestPartition(Struct, gc=False):
    """A timestamp asked of a partition."""

    partition_index: Int32 = 0
    current_leader_epoch: Annotated[Int32, since(4), IGNORABLE] = -1
    timestamp: Int64 = 0


class ListOffsetsRequestTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: String = ""
    partitions: list[ListOffsetsRequestPartition] = []


@message(versions=(1, 11), flexible=6)
class ListOffsetsRequest(Struct, gc=False):
    """Which offsets."""

    replica_id: Int32 = 0
    isolation_level: Annotated[Int8, since(2)] = 0
    topics: list[ListOffsetsRequestTopic] = []
    timeout_ms: Annotated[Int32, since(10), IGNORABLE] = 0


class ListOffsetsResponsePartition(Struct, gc=False):
    """The offset found; -1 if none."""

    partition_index: Int32 = 0
    error_code: Int16 = 0
    timestamp: Annotated[Int64, since(1)] = -1
    offset: Annotated[Int64, since(1)] = -1
    leader_epoch: Annotated[Int32, since(4)] = -1


class ListOffsetsResponseTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: String = ""
    partitions: list[ListOffsetsResponsePartition] = []


@message(versions=(1, 11), flexible=6)
class ListOffsetsResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Annotated[Int32, since(2), IGNORABLE] = 0
    topics: list[ListOffsetsResponseTopic] = []
