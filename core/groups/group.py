"""A group of either protocol, and where the two differ for offsets."""

from tailrace.core.errors import GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP, NONE
from tailrace.core.groups.classic import ClassicGroup
from tailrace.core.groups.classic_generations import CONSUMER, DEAD, EMPTY, STABLE
from tailrace.core.groups.consumer import ConsumerGroup

Group = ClassicGroup | ConsumerGroup
NOT_KNOWN = -1  # since when a classic group is in its state


def is_subscribed(group: Group, topic: str) -> bool:
    """Whether the group reads the topic, as far as anybody can tell."""
    topics = group.subscribed_topics()
    return group.protocol_type == CONSUMER if topics is None else topic in topics


def offset_delete_error(group: Group) -> int:
    """NONE, or why no offset may go: nobody knows what a live group reads that is not of consumers."""
    if isinstance(group, ConsumerGroup) or group.state == EMPTY:
        return NONE
    if group.state == DEAD:
        return GROUP_ID_NOT_FOUND
    return NONE if group.protocol_type == CONSUMER else NON_EMPTY_GROUP


def offsets_age(group: Group) -> tuple[bool, int | None]:
    """Whether the group's offsets grow old, and since when; None: since each was committed.

    Those of an empty classic group since it is empty; those that a stable one of consumers does not read,
    those of KIP-848 groups and of groups without a protocol since they were committed; others do not.
    """
    if isinstance(group, ConsumerGroup) or group.protocol_type is None:
        return True, None
    if group.state == EMPTY:
        since_ms = group.current_state_timestamp
        return True, None if since_ms == NOT_KNOWN else since_ms
    is_known = group.protocol_type == CONSUMER and group.subscribed_topics() is not None
    return is_known and group.state == STABLE, None
