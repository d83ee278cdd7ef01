"""AlterPartitionReassignments (45): give partitions other replicas, or stop what is under way.

Version 1 brought whether the number of replicas may change.
"""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    Bool,
    Int16,
    Int32,
    NullableString,
    String,
    message,
    since,
)


class AlterPartitionReassignmentsRequestPartition(Struct, gc=False):
    """The replicas that a partition is to have; null cancels its reassignment."""

    partition_index: Int32 = 0
    replicas: list[Int32] | None = None


class AlterPartitionReassignmentsRequestTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: String = ""
    partitions: list[AlterPartitionReassignmentsRequestPartition] = []


@message(versions=(0, 1), flexible=0)
class AlterPartitionReassignmentsRequest(Struct, gc=False):
    """What to move where."""

    timeout_ms: Int32 = 60_000
    allow_replication_factor_change: Annotated[Bool, since(1)] = True
    topics: list[AlterPartitionReassignmentsRequestTopic] = []


class AlterPartitionReassignmentsResponsePartition(Struct, gc=False):
    """Whether the move began."""

    partition_index: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = None


class AlterPartitionReassignmentsResponseTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: String = ""
    partitions: list[AlterPartitionReassignmentsResponsePartition] = []


@message(versions=(0, 1), flexible=0)
class AlterPartitionReassignmentsResponse(Struct, gc=False):
    """The answer; an error for all of it leaves the topics out."""

    throttle_time_ms: Int32 = 0
    allow_replication_factor_change: Annotated[Bool, since(1), IGNORABLE] = True
    error_code: Int16 = 0
    error_message: NullableString = None
    responses: list[AlterPartitionReassignmentsResponseTopic] = []
