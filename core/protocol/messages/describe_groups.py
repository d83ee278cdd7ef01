"""DescribeGroups (15): classic groups and their members. Version 6 brought error messages."""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.messages.metadata import NO_OPERATIONS
from tailrace.core.protocol.schema import (
    IGNORABLE,
    Bool,
    Bytes,
    Int16,
    Int32,
    NullableString,
    String,
    message,
    since,
)


@message(versions=(0, 6), flexible=5)
class DescribeGroupsRequest(Struct, gc=False):
    """Which groups."""

    groups: list[String] = []
    include_authorized_operations: Annotated[Bool, since(3)] = False


class DescribeGroupsResponseMember(Struct, gc=False):
    """One member."""

    member_id: String = ""
    group_instance_id: Annotated[NullableString, since(4), IGNORABLE] = None
    client_id: String = ""
    client_host: String = ""
    member_metadata: Bytes = b""
    member_assignment: Bytes = b""


class DescribeGroupsResponseGroup(Struct, gc=False):
    """One group."""

    error_code: Int16 = 0
    error_message: Annotated[NullableString, since(6)] = None
    group_id: String = ""
    group_state: String = ""
    protocol_type: String = ""
    protocol_data: String = ""
    members: list[DescribeGroupsResponseMember] = []
    authorized_operations: Annotated[Int32, since(3)] = NO_OPERATIONS


@message(versions=(0, 6), flexible=5)
class DescribeGroupsResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Annotated[Int32, since(1), IGNORABLE] = 0
    groups: list[DescribeGroupsResponseGroup] = []
