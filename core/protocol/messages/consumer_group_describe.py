"""ConsumerGroupDescribe (69): KIP-848 groups and their members. Version 1 says which members are classic."""

from typing import Annotated

from msgspec import Struct, field

from tailrace.core.protocol.messages.metadata import NO_OPERATIONS
from tailrace.core.protocol.schema import (
    IGNORABLE,
    NO_ID,
    Bool,
    Int8,
    Int16,
    Int32,
    NullableString,
    String,
    Uuid,
    message,
    since,
)


@message(versions=(0, 1), flexible=0)
class ConsumerGroupDescribeRequest(Struct, gc=False):
    """Which groups."""

    group_ids: list[String] = []
    include_authorized_operations: Bool = False


class ConsumerGroupDescribeResponseTopicPartitions(Struct, gc=False):
    """The partitions of one topic."""

    topic_id: Uuid = NO_ID
    topic_name: String = ""
    partitions: list[Int32] = []


class ConsumerGroupDescribeResponseAssignment(Struct, gc=False):
    """Partitions of several topics."""

    topic_partitions: list[ConsumerGroupDescribeResponseTopicPartitions] = []


class ConsumerGroupDescribeResponseMember(Struct, gc=False):
    """One member."""

    member_id: String = ""
    instance_id: NullableString = None
    rack_id: NullableString = None
    member_epoch: Int32 = 0
    client_id: String = ""
    client_host: String = ""
    subscribed_topic_names: list[String] = []
    subscribed_topic_regex: NullableString = None
    assignment: ConsumerGroupDescribeResponseAssignment = field(
        default_factory=ConsumerGroupDescribeResponseAssignment
    )
    target_assignment: ConsumerGroupDescribeResponseAssignment = field(
        default_factory=ConsumerGroupDescribeResponseAssignment
    )
    member_type: Annotated[Int8, since(1), IGNORABLE] = -1


class ConsumerGroupDescribeResponseGroup(Struct, gc=False):
    """One group."""

    error_code: Int16 = 0
    error_message: NullableString = None
    group_id: String = ""
    group_state: String = ""
    group_epoch: Int32 = 0
    assignment_epoch: Int32 = 0
    assignor_name: String = ""
    members: list[ConsumerGroupDescribeResponseMember] = []
    authorized_operations: Int32 = NO_OPERATIONS


@message(versions=(0, 1), flexible=0)
class ConsumerGroupDescribeResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Int32 = 0
    groups: list[ConsumerGroupDescribeResponseGroup] = []
