"""OffsetFetch (9): the offsets that groups have committed.

Versions 1-7 ask for one group, 8 and later for several; null topics (from 2 on) ask for all. Version 9
brought the member and its epoch (KIP-848), 10 names topics by id. What is asked of and told about a group is
of the same classes in all versions.
"""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    NO_ID,
    Bool,
    Int16,
    Int32,
    Int64,
    NullableString,
    String,
    Uuid,
    between,
    message,
    nullable,
    since,
    upto,
)


class OffsetFetchRequestTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: Annotated[String, upto(9), IGNORABLE] = ""
    topic_id: Annotated[Uuid, since(10), IGNORABLE] = NO_ID
    partition_indexes: list[Int32] = []


class OffsetFetchRequestGroup(Struct, gc=False):
    """What is asked of one group."""

    group_id: String = ""
    member_id: Annotated[NullableString, since(9), IGNORABLE] = None
    member_epoch: Annotated[Int32, since(9), IGNORABLE] = -1
    topics: list[OffsetFetchRequestTopic] | None = None


@message(versions=(1, 10), flexible=6)
class OffsetFetchRequest(Struct, gc=False):
    """Which offsets; require_stable refuses those that an open transaction may change."""

    group_id: Annotated[String, upto(7)] = ""
    topics: Annotated[list[OffsetFetchRequestTopic] | None, upto(7), nullable(2)] = []
    groups: Annotated[list[OffsetFetchRequestGroup], since(8)] = []
    require_stable: Annotated[Bool, since(7)] = False


class OffsetFetchResponsePartition(Struct, gc=False):
    """The committed offset; -1 if there is none."""

    partition_index: Int32 = 0
    committed_offset: Int64 = 0
    committed_leader_epoch: Annotated[Int32, since(5), IGNORABLE] = -1
    metadata: NullableString = None
    error_code: Int16 = 0


class OffsetFetchResponseTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: Annotated[String, upto(9), IGNORABLE] = ""
    topic_id: Annotated[Uuid, since(10), IGNORABLE] = NO_ID
    partitions: list[OffsetFetchResponsePartition] = []


class OffsetFetchResponseGroup(Struct, gc=False):
    """The offsets of one group."""

    group_id: String = ""
    topics: list[OffsetFetchResponseTopic] = []
    error_code: Int16 = 0


@message(versions=(1, 10), flexible=6)
class OffsetFetchResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Annotated[Int32, since(3), IGNORABLE] = 0
    topics: Annotated[list[OffsetFetchResponseTopic], upto(7)] = []
    error_code: Annotated[Int16, between(2, 7), IGNORABLE] = 0
    groups: Annotated[list[OffsetFetchResponseGroup], since(8)] = []
