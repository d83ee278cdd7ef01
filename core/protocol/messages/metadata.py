"""Metadata (3): brokers, topics and leaders.

Version 0 has no way to ask for no topics: an empty list means all. From 1 on null means all. Version 10
brought topic ids, 12 names that may be null, 13 an error for the whole response.
"""

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
    between,
    message,
    nullable,
    since,
)

NO_OPERATIONS = -(2**31)  # authorized operations were not asked for


class MetadataRequestTopic(Struct, gc=False):
    """A topic asked about, by name or by id."""

    topic_id: Annotated[Uuid, since(10), IGNORABLE] = NO_ID
    name: Annotated[NullableString, nullable(10)] = ""


@message(versions=(0, 13), flexible=9)
class MetadataRequest(Struct, gc=False):
    """Which topics."""

    topics: Annotated[list[MetadataRequestTopic] | None, nullable(1)] = []
    allow_auto_topic_creation: Annotated[Bool, since(4)] = True
    include_cluster_authorized_operations: Annotated[Bool, between(8, 10)] = False
    include_topic_authorized_operations: Annotated[Bool, since(8)] = False


class MetadataResponseBroker(Struct, gc=False):
    """A broker and where to reach it."""

    node_id: Int32 = 0
    host: String = ""
    port: Int32 = 0
    rack: Annotated[NullableString, since(1), IGNORABLE] = None


class MetadataResponsePartition(Struct, gc=False):
    """A partition, its leader and replicas."""

    error_code: Int16 = 0
    partition_index: Int32 = 0
    leader_id: Int32 = 0
    leader_epoch: Annotated[Int32, since(7), IGNORABLE] = -1
    replica_nodes: list[Int32] = []
    isr_nodes: list[Int32] = []
    offline_replicas: Annotated[list[Int32], since(5), IGNORABLE] = []


class MetadataResponseTopic(Struct, gc=False):
    """A topic and its partitions."""

    error_code: Int16 = 0
    name: Annotated[NullableString, nullable(12)] = ""
    topic_id: Annotated[Uuid, since(10), IGNORABLE] = NO_ID
    is_internal: Annotated[Bool, since(1), IGNORABLE] = False
    partitions: list[MetadataResponsePartition] = []
    topic_authorized_operations: Annotated[Int32, since(8)] = NO_OPERATIONS


@message(versions=(0, 13), flexible=9)
class MetadataResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Annotated[Int32, since(3), IGNORABLE] = 0
    brokers: list[MetadataResponseBroker] = []
    cluster_id: Annotated[NullableString, since(2), IGNORABLE] = None
    controller_id: Annotated[Int32, since(1), IGNORABLE] = -1
    topics: list[MetadataResponseTopic] = []
    cluster_authorized_operations: Annotated[Int32, between(8, 10)] = NO_OPERATIONS
    error_code: Annotated[Int16, since(13), IGNORABLE] = 0
