"""AddRaftVoter (80): let one more controller vote.

Version 1 brought whether the answer waits until the new set of voters is committed.
"""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    NO_ID,
    Bool,
    Int16,
    Int32,
    NullableString,
    String,
    Uint16,
    Uuid,
    message,
    since,
)


class AddRaftVoterRequestListener(Struct, gc=False):
    """An address of the voter."""

    name: String = ""
    host: String = ""
    port: Uint16 = 0


@message(versions=(0, 1), flexible=0)
class AddRaftVoterRequest(Struct, gc=False):
    """Which controller, by its id and that of its metadata directory."""

    cluster_id: NullableString = ""
    timeout_ms: Int32 = 0
    voter_id: Int32 = 0
    voter_directory_id: Uuid = NO_ID
    listeners: list[AddRaftVoterRequestListener] = []
    ack_when_committed: Annotated[Bool, since(1)] = True


@message(versions=(0, 1), flexible=0)
class AddRaftVoterResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: Annotated[NullableString, IGNORABLE] = None
