"""The answers of classic groups that say no, and what the codes of a failed append become in them."""

from tailrace.core.errors import (
    COORDINATOR_NOT_AVAILABLE,
    INVALID_FETCH_SIZE,
    KAFKA_STORAGE_ERROR,
    MESSAGE_TOO_LARGE,
    NOT_COORDINATOR,
    NOT_ENOUGH_REPLICAS,
    NOT_LEADER_OR_FOLLOWER,
    RECORD_LIST_TOO_LARGE,
    REQUEST_TIMED_OUT,
    UNKNOWN_SERVER_ERROR,
    UNKNOWN_TOPIC_OR_PARTITION,
)
from tailrace.core.groups.runtime import GroupRequest
from tailrace.core.protocol.messages.join_group import JoinGroupResponse
from tailrace.core.protocol.messages.sync_group import SyncGroupResponse

JOIN_PROTOCOL_MAY_BE_NULL = 7  # the version of JoinGroup

_OF_APPEND = {
    UNKNOWN_TOPIC_OR_PARTITION: COORDINATOR_NOT_AVAILABLE,
    NOT_ENOUGH_REPLICAS: COORDINATOR_NOT_AVAILABLE,
    REQUEST_TIMED_OUT: COORDINATOR_NOT_AVAILABLE,
    NOT_LEADER_OR_FOLLOWER: NOT_COORDINATOR,
    KAFKA_STORAGE_ERROR: NOT_COORDINATOR,
    MESSAGE_TOO_LARGE: UNKNOWN_SERVER_ERROR,
    RECORD_LIST_TOO_LARGE: UNKNOWN_SERVER_ERROR,
    INVALID_FETCH_SIZE: UNKNOWN_SERVER_ERROR,
}


def append_error(error: int) -> int:
    """What a member is told when its group could not be written, so that it does what helps."""
    return _OF_APPEND.get(error, error)


def refuse_join(request: GroupRequest, error: int, member_id: str = "") -> None:
    """Answer a JoinGroup with an error."""
    protocol_name = None if request.version >= JOIN_PROTOCOL_MAY_BE_NULL else ""
    request.reply(JoinGroupResponse(error_code=error, protocol_name=protocol_name, member_id=member_id))


def refuse_sync(request: GroupRequest, error: int) -> None:
    """Answer a SyncGroup with an error."""
    request.reply(SyncGroupResponse(error_code=error))
