"""JoinGroup (11): a member of a classic group joins or joins again.

Version 1 brought a rebalance timeout of its own, 4 the two steps that give a new member its id first, 5
static members, 7 the chosen protocol's type, 8 a reason, 9 a leader that need not assign.
"""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    Bool,
    Bytes,
    Int16,
    Int32,
    NullableString,
    String,
    message,
    nullable,
    since,
)


class JoinGroupRequestProtocol(Struct, gc=False):
    """An assignor that the member can follow, and what it tells the leader."""

    name: String = ""
    metadata: Bytes = b""


@message(versions=(0, 9), flexible=6)
class JoinGroupRequest(Struct, gc=False):
    """Who joins, with which protocols."""

    group_id: String = ""
    session_timeout_ms: Int32 = 0
    rebalance_timeout_ms: Annotated[Int32, since(1), IGNORABLE] = -1
    member_id: String = ""
    group_instance_id: Annotated[NullableString, since(5)] = None
    protocol_type: String = ""
    protocols: list[JoinGroupRequestProtocol] = []
    reason: Annotated[NullableString, since(8), IGNORABLE] = None


class JoinGroupResponseMember(Struct, gc=False):
    """A member, as its leader sees it."""

    member_id: String = ""
    group_instance_id: Annotated[NullableString, since(5), IGNORABLE] = None
    metadata: Bytes = b""


@message(versions=(0, 9), flexible=6)
class JoinGroupResponse(Struct, gc=False):
    """The generation that began; its members are told to the leader alone."""

    throttle_time_ms: Annotated[Int32, since(2), IGNORABLE] = 0
    error_code: Int16 = 0
    generation_id: Int32 = -1
    protocol_type: Annotated[NullableString, since(7), IGNORABLE] = None
    protocol_name: Annotated[NullableString, nullable(7)] = ""
    leader: String = ""
    skip_assignment: Annotated[Bool, since(9)] = False
    member_id: String = ""
    members: list[JoinGroupResponseMember] = []
