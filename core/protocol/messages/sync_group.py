"""SyncGroup (14): the leader of a classic group hands in the assignment, every member takes its part.

Version 3 brought static members, 5 the protocol's type and name.
"""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    Bytes,
    Int16,
    Int32,
    NullableString,
    String,
    message,
    since,
)


class SyncGroupRequestAssignment(Struct, gc=False):
    """What one member is to read."""

    member_id: String = ""
    assignment: Bytes = b""


@message(versions=(0, 5), flexible=4)
class SyncGroupRequest(Struct, gc=False):
    """Who asks; assignments come from the leader alone."""

    group_id: String = ""
    generation_id: Int32 = 0
    member_id: String = ""
    group_instance_id: Annotated[NullableString, since(3)] = None
    protocol_type: Annotated[NullableString, since(5), IGNORABLE] = None
    protocol_name: Annotated[NullableString, since(5), IGNORABLE] = None
    assignments: list[SyncGroupRequestAssignment] = []


@message(versions=(0, 5), flexible=4)
class SyncGroupResponse(Struct, gc=False):
    """The member's part."""

    throttle_time_ms: Annotated[Int32, since(1), IGNORABLE] = 0
    error_code: Int16 = 0
    protocol_type: Annotated[NullableString, since(5), IGNORABLE] = None
    protocol_name: Annotated[NullableString, since(5), IGNORABLE] = None
    assignment: Bytes = b""
