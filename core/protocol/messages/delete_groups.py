"""DeleteGroups (42): empty groups go, with their offsets."""

from msgspec import Struct

from tailrace.core.protocol.schema import (
    Int16,
    Int32,
    String,
    message,
)


@message(versions=(0, 2), flexible=2)
class DeleteGroupsRequest(Struct, gc=False):
    """Which groups."""

    groups_names: list[String] = []


class DeleteGroupsResponseResult(Struct, gc=False):
    """What became of one group."""

    group_id: String = ""
    error_code: Int16 = 0


@message(versions=(0, 2), flexible=2)
class DeleteGroupsResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Int32 = 0
    results: list[DeleteGroupsResponseResult] = []
