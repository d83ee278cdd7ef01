"""FindCoordinator (10): the broker that coordinates a group or a transactional id.

Versions 0-3 ask for one key, 4 and later for several. Version 6 brought share groups.
"""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    Int8,
    Int16,
    Int32,
    NullableString,
    String,
    between,
    message,
    since,
    upto,
)

GROUP = 0  # kinds of keys
TRANSACTION = 1
SHARE = 2


@message(versions=(0, 6), flexible=3)
class FindCoordinatorRequest(Struct, gc=False):
    """Which keys, and what kind they are of."""

    key: Annotated[String, upto(3)] = ""
    key_type: Annotated[Int8, since(1)] = 0
    coordinator_keys: Annotated[list[String], since(4)] = []


class FindCoordinatorResponseCoordinator(Struct, gc=False):
    """Who coordinates one key."""

    key: String = ""
    node_id: Int32 = 0
    host: String = ""
    port: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = None


@message(versions=(0, 6), flexible=3)
class FindCoordinatorResponse(Struct, gc=False):
    """The answer; versions 0-3 name the one coordinator in the response itself."""

    throttle_time_ms: Annotated[Int32, since(1), IGNORABLE] = 0
    error_code: Annotated[Int16, upto(3)] = 0
    error_message: Annotated[NullableString, between(1, 3), IGNORABLE] = ""
    node_id: Annotated[Int32, upto(3)] = 0
    host: Annotated[String, upto(3)] = ""
    port: Annotated[Int32, upto(3)] = 0
    coordinators: Annotated[list[FindCoordinatorResponseCoordinator], since(4)] = []
