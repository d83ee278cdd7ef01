"""DescribeTopicPartitions (75): topics in pages, for administrators; the cursor says where to go on."""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    NO_ID,
    Bool,
    Int16,
    Int32,
    NullableString,
    String,
    Uuid,
    message,
)


class DescribeTopicPartitionsRequestTopic(Struct, gc=False):
    """A topic asked about."""

    name: String = ""


class DescribeTopicPartitionsRequestCursor(Struct, gc=False):
    """The first partition to tell about."""

    topic_name: String = ""
    partition_index: Int32 = 0


@message(versions=(0, 0), flexible=0)
class DescribeTopicPartitionsRequest(Struct, gc=False):
    """Which topics, from where, and how many partitions at most; no topics means all."""

    topics: list[DescribeTopicPartitionsRequestTopic] = []
    response_partition_limit: Int32 = 2000
    cursor: DescribeTopicPartitionsRequestCursor | None = None


class DescribeTopicPartitionsResponsePartition(Struct, gc=False):
    """A partition, its leader and replicas."""

    error_code: Int16 = 0
    partition_index: Int32 = 0
    leader_id: Int32 = 0
    leader_epoch: Annotated[Int32, IGNORABLE] = -1
    replica_nodes: list[Int32] = []
    isr_nodes: list[Int32] = []
    eligible_leader_replicas: list[Int32] | None = None
    last_known_elr: list[Int32] | None = None
    offline_replicas: Annotated[list[Int32], IGNORABLE] = []


class DescribeTopicPartitionsResponseTopic(Struct, gc=False):
    """A topic and some of its partitions."""

    error_code: Int16 = 0
    name: NullableString = ""
    topic_id: Annotated[Uuid, IGNORABLE] = NO_ID
    is_internal: Annotated[Bool, IGNORABLE] = False
    partitions: list[DescribeTopicPartitionsResponsePartition] = []
    topic_authorized_operations: Int32 = -(2**31)


class DescribeTopicPartitionsResponseCursor(Struct, gc=False):
    """The first partition not told about."""

    topic_name: String = ""
    partition_index: Int32 = 0


@message(versions=(0, 0), flexible=0)
class DescribeTopicPartitionsResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Annotated[Int32, IGNORABLE] = 0
    topics: list[DescribeTopicPartitionsResponseTopic] = []
    next_cursor: DescribeTopicPartitionsResponseCursor | None = None
