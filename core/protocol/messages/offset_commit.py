"""OffsetCommit (8): the offsets a group has come to.

The member and its generation (or its epoch, KIP-848) are checked; -1 and no member is a commit from outside
of a group's protocol. Version 10 names topics by id.
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
    Uuid,
    message,
    since,
    upto,
)


class OffsetCommitRequestPartition(Struct, gc=False):
    """The next offset to read."""

    partition_index: Int32 = 0
    committed_offset: Int64 = 0
    committed_leader_epoch: Annotated[Int32, since(6), IGNORABLE] = -1
    committed_metadata: NullableString = None


class OffsetCommitRequestTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: Annotated[String, upto(9), IGNORABLE] = ""
    topic_id: Annotated[Uuid, since(10), IGNORABLE] = NO_ID
    partitions: list[OffsetCommitRequestPartition] = []


@message(versions=(2, 10), flexible=8)
class OffsetCommitRequest(Struct, gc=False):
    """Offsets to keep; the retention time of old versions is not obeyed since Kafka 2.1."""

    group_id: String = ""
    generation_id_or_member_epoch: Int32 = -1
    member_id: String = ""
    group_instance_id: Annotated[NullableString, since(7)] = None
    retention_time_ms: Annotated[Int64, upto(4), IGNORABLE] = -1
    topics: list[OffsetCommitRequestTopic] = []


class OffsetCommitResponsePartition(Struct, gc=False):
    """Whether the offset was kept."""

    partition_index: Int32 = 0
    error_code: Int16 = 0


class OffsetCommitResponseTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: Annotated[String, upto(9), IGNORABLE] = ""
    topic_id: Annotated[Uuid, since(10), IGNORABLE] = NO_ID
    partitions: list[OffsetCommitResponsePartition] = []


@message(versions=(2, 10), flexible=8)
class OffsetCommitResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Annotated[Int32, since(3), IGNORABLE] = 0
    topics: list[OffsetCommitResponseTopic] = []
