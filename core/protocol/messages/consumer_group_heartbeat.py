"""ConsumerGroupHeartbeat (68): a KIP-848 member joins, lives, subscribes, owns partitions, leaves.

Null, or -1 for the timeout, means "as last time". Member epochs: 0 joins, -1 leaves, -2 leaves and keeps a
static member's place. Version 1 has regular expressions, and member ids made by the consumer.
"""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    NO_ID,
    Int16,
    Int32,
    NullableString,
    String,
    Uuid,
    message,
    since,
)


class ConsumerGroupHeartbeatRequestTopicPartitions(Struct, gc=False):
    """The partitions of one topic that the member owns."""

    topic_id: Uuid = NO_ID
    partitions: list[Int32] = []


@message(versions=(0, 1), flexible=0)
class ConsumerGroupHeartbeatRequest(Struct, gc=False):
    """Who beats, and what changed."""

    group_id: String = ""
    member_id: String = ""
    member_epoch: Int32 = 0
    instance_id: NullableString = None
    rack_id: NullableString = None
    rebalance_timeout_ms: Int32 = -1
    subscribed_topic_names: list[String] | None = None
    subscribed_topic_regex: Annotated[NullableString, since(1)] = None
    server_assignor: NullableString = None
    topic_partitions: list[ConsumerGroupHeartbeatRequestTopicPartitions] | None = None


class ConsumerGroupHeartbeatResponseTopicPartitions(Struct, gc=False):
    """The partitions of one topic."""

    topic_id: Uuid = NO_ID
    partitions: list[Int32] = []


class ConsumerGroupHeartbeatResponseAssignment(Struct, gc=False):
    """What the member may read now."""

    topic_partitions: list[ConsumerGroupHeartbeatResponseTopicPartitions] = []


@message(versions=(0, 1), flexible=0)
class ConsumerGroupHeartbeatResponse(Struct, gc=False):
    """The member's epoch, when to beat again, and its assignment if that changed."""

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = None
    member_id: NullableString = None
    member_epoch: Int32 = 0
    heartbeat_interval_ms: Int32 = 0
    assignment: ConsumerGroupHeartbeatResponseAssignment | None = None
