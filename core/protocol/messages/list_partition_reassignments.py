"""ListPartitionReassignments (46): which partitions change their replicas now."""

from msgspec import Struct

from tailrace.core.protocol.schema import Int16, Int32, NullableString, String, message


class ListPartitionReassignmentsRequestTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: String = ""
    partition_indexes: list[Int32] = []


@message(versions=(0, 0), flexible=0)
class ListPartitionReassignmentsRequest(Struct, gc=False):
    """Which to look at; null means all."""

    timeout_ms: Int32 = 60_000
    topics: list[ListPartitionReassignmentsRequestTopic] | None = None


class ListPartitionReassignmentsResponsePartition(Struct, gc=False):
    """One that moves: all its replicas, and which of them come and go."""

    partition_index: Int32 = 0
    replicas: list[Int32] = []
    adding_replicas: list[Int32] = []
    removing_replicas: list[Int32] = []


class ListPartitionReassignmentsResponseTopic(Struct, gc=False):
    """The partitions of one topic that move."""

    name: String = ""
    partitions: list[ListPartitionReassignmentsResponsePartition] = []


@message(versions=(0, 0), flexible=0)
class ListPartitionReassignmentsResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = None
    topics: list[ListPartitionReassignmentsResponseTopic] = []
