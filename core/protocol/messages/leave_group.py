"""LeaveGroup (13): members leave a classic group.

Versions 0-2 name one member, 3 and later several, also by their static ids. Version 5 brought a reason.
"""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    Int16,
    Int32,
    NullableString,
    String,
    message,
    since,
    upto,
)


class LeaveGroupRequestMember(Struct, gc=False):
    """A member; one without an id is found by its static id."""

    member_id: String = ""
    group_instance_id: NullableString = None
    reason: Annotated[NullableString, since(5), IGNORABLE] = None


@message(versions=(0, 5), flexible=4)
class LeaveGroupRequest(Struct, gc=False):
    """Who leaves."""

    group_id: String = ""
    member_id: Annotated[String, upto(2)] = ""
    members: Annotated[list[LeaveGroupRequestMember], since(3)] = []


class LeaveGroupResponseMember(Struct, gc=False):
    """What became of one member."""

    member_id: String = ""
    group_instance_id: NullableString = None
    error_code: Int16 = 0


@message(versions=(0, 5), flexible=4)
class LeaveGroupResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Annotated[Int32, since(1), IGNORABLE] = 0
    error_code: Int16 = 0
    members: Annotated[list[LeaveGroupResponseMember], since(3)] = []
