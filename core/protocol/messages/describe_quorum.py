"""DescribeQuorum (55): who leads the metadata log, who votes, who follows, and how far each has come.

Version 1 brought when a replica fetched last and when it had last caught up, 2 directory ids, error messages
and where the voters listen.
"""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    NO_ID,
    Int16,
    Int32,
    Int64,
    NullableString,
    String,
    Uint16,
    Uuid,
    message,
    since,
)


class DescribeQuorumRequestPartition(Struct, gc=False):
    """A partition: 0 is the only one."""

    partition_index: Int32 = 0


class DescribeQuorumRequestTopic(Struct, gc=False):
    """A topic: __cluster_metadata is the only one."""

    topic_name: String = ""
    partitions: list[DescribeQuorumRequestPartition] = []


@message(versions=(0, 2), flexible=0)
class DescribeQuorumRequest(Struct, gc=False):
    """Which quorums."""

    topics: list[DescribeQuorumRequestTopic] = []


class DescribeQuorumResponseReplica(Struct, gc=False):
    """One voter or observer, as the leader knows it; -1 for what it does not."""

    replica_id: Int32 = 0
    replica_directory_id: Annotated[Uuid, since(2)] = NO_ID
    log_end_offset: Int64 = 0
    last_fetch_timestamp: Annotated[Int64, since(1), IGNORABLE] = -1
    last_caught_up_timestamp: Annotated[Int64, since(1), IGNORABLE] = -1


class DescribeQuorumResponsePartition(Struct, gc=False):
    """One quorum."""

    partition_index: Int32 = 0
    error_code: Int16 = 0
    error_message: Annotated[NullableString, since(2), IGNORABLE] = ""
    leader_id: Int32 = 0
    leader_epoch: Int32 = 0
    high_watermark: Int64 = 0
    current_voters: list[DescribeQuorumResponseReplica] = []
    observers: list[DescribeQuorumResponseReplica] = []


class DescribeQuorumResponseTopic(Struct, gc=False):
    """The partitions of one topic."""

    topic_name: String = ""
    partitions: list[DescribeQuorumResponsePartition] = []


class DescribeQuorumResponseListener(Struct, gc=False):
    """An address of a voter."""

    name: String = ""
    host: String = ""
    port: Uint16 = 0


class DescribeQuorumResponseNode(Struct, gc=False):
    """Where a voter listens."""

    node_id: Int32 = 0
    listeners: list[DescribeQuorumResponseListener] = []


@message(versions=(0, 2), flexible=0)
class DescribeQuorumResponse(Struct, gc=False):
    """The answer."""

    error_code: Int16 = 0
    error_message: Annotated[NullableString, since(2), IGNORABLE] = ""
    topics: list[DescribeQuorumResponseTopic] = []
    nodes: Annotated[list[DescribeQuorumResponseNode], since(2)] = []
