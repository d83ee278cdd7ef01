"""Heartbeat (12): a member of a classic group is alive. Version 3 brought static members."""

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
)


@message(versions=(0, 4), flexible=4)
class HeartbeatRequest(Struct, gc=False):
    """Who is alive."""

    group_id: String = ""
    generation_id: Int32 = 0
    member_id: String = ""
    group_instance_id: Annotated[NullableString, since(3)] = None


@message(versions=(0, 4), flexible=4)
class HeartbeatResponse(Struct, gc=False):
    """The answer: go on, or join again."""

    throttle_time_ms: Annotated[Int32, since(1), IGNORABLE] = 0
    error_code: Int16 = 0
