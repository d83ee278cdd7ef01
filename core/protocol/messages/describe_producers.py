"""DescribeProducers (61): the producers that a partition remembers."""

from msgspec import Struct

from tailrace.core.protocol.schema import (
    Int16,
    Int32,
    Int64,
    NullableString,
    String,
    message,
)


class DescribeProducersRequestTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: String = ""
    partition_indexes: list[Int32] = []


@message(versions=(0, 0), flexible=0)
class DescribeProducersRequest(Struct, gc=False):
    """Which partitions."""

    topics: list[DescribeProducersRequestTopic] = []


class DescribeProducersResponseProducer(Struct, gc=False):
    """One producer; offset -1: it has no open transaction."""

    producer_id: Int64 = 0
    producer_epoch: Int32 = 0
    last_sequence: Int32 = -1
    last_timestamp: Int64 = -1
    coordinator_epoch: Int32 = 0
    current_txn_start_offset: Int64 = -1


class DescribeProducersResponsePartition(Struct, gc=False):
    """The producers of one partition."""

    partition_index: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = None
    active_producers: list[DescribeProducersResponseProducer] = []


class DescribeProducersResponseTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: String = ""
    partitions: list[DescribeProducersResponsePartition] = []


@message(versions=(0, 0), flexible=0)
class DescribeProducersResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Int32 = 0
    topics: list[DescribeProducersResponseTopic] = []
