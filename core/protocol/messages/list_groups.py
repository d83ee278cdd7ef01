"""ListGroups (16): the groups that a broker coordinates.

Version 4 brought their states, 5 their types, and filters for each.
"""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    Int16,
    Int32,
    String,
    message,
    since,
)


@message(versions=(0, 5), flexible=3)
class ListGroupsRequest(Struct, gc=False):
    """Which groups; an empty filter lets all through."""

    states_filter: Annotated[list[String], since(4)] = []
    types_filter: Annotated[list[String], since(5)] = []


class ListGroupsResponseGroup(Struct, gc=False):
    """One group."""

    group_id: String = ""
    protocol_type: String = ""
    group_state: Annotated[String, since(4), IGNORABLE] = ""
    group_type: Annotated[String, since(5), IGNORABLE] = ""


@message(versions=(0, 5), flexible=3)
class ListGroupsResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Annotated[Int32, since(1), IGNORABLE] = 0
    error_code: Int16 = 0
    groups: list[ListGroupsResponseGroup] = []
