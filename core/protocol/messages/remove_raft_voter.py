"""RemoveRaftVoter (81): let a controller vote no more."""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    NO_ID,
    Int16,
    Int32,
    NullableString,
    Uuid,
    message,
)


@message(versions=(0, 0), flexible=0)
class RemoveRaftVoterRequest(Struct, gc=False):
    """Which controller, by its id and that of its metadata directory."""

    cluster_id: NullableString = ""
    voter_id: Int32 = 0
    voter_directory_id: Uuid = NO_ID


@message(versions=(0, 0), flexible=0)
class RemoveRaftVoterResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: Annotated[NullableString, IGNORABLE] = None
