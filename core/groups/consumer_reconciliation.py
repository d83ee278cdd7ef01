"""How a member of a KIP-848 group gets from what it owns to its target.

    STABLE                 owns its target of the assignment epoch, or does not know of a newer one yet
    UNREVOKED_PARTITIONS   must give partitions back first; it stays in its epoch until it reports that it
                           owns none of them
    UNRELEASED_PARTITIONS  is in the new epoch and waits for partitions that others have not given back

(R) A partition is given to a member only when nobody else owns it or has yet to give it back.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from tailrace.core.errors import FENCED_MEMBER_EPOCH, KafkaError
from tailrace.core.groups.assignors import Partitions
from tailrace.core.groups.consumer_member import (
    STABLE,
    UNRELEASED_PARTITIONS,
    UNREVOKED_PARTITIONS,
    Assigned,
    ConsumerMember,
)


class TopicPartitions(Protocol):
    """Partitions of a topic, as a heartbeat lists them."""

    topic_id: bytes
    partitions: list[int]


class Goal(Struct, frozen=True):
    """Where a member shall get, and what is in its way."""

    assignment_epoch: int
    target: Partitions
    subscribed: frozenset[bytes]  # ids of the topics it subscribes to now; its target may be of before
    subscription_changed: bool  # by this heartbeat
    is_taken: Callable[[bytes, int], bool]  # owned by any member, or not given back
    owned: Sequence[TopicPartitions] | None  # what it says it owns; None: it did not say


def reconcile(member: ConsumerMember, goal: Goal) -> ConsumerMember:
    """The member after the next step towards its goal, or as it is if it cannot move."""
    if member.state == STABLE:
        moves = member.member_epoch != goal.assignment_epoch
    elif member.state == UNREVOKED_PARTITIONS:
        moves = not _owns_any(goal.owned, member.revoking)
    elif member.state == UNRELEASED_PARTITIONS:
        moves = True
    else:  # written by a later Kafka: it begins again with nothing
        if goal.owned is None or goal.owned:
            raise KafkaError(
                FENCED_MEMBER_EPOCH,
                "The consumer group member is in a unknown state. The member must abandon all its"
                " partitions and rejoin.",
            )
        return _next(member, goal, goal.assignment_epoch)
    if moves:
        return _next(member, goal, member.member_epoch)
    return _without_unsubscribed(member, goal) if goal.subscription_changed else member


def _owns_any(owned: Sequence[TopicPartitions] | None, partitions: Assigned) -> bool:
    """Whether the member still owns one of these; one that does not say may own all."""
    if owned is None:
        return True
    return any(
        partition in partitions.get(topic.topic_id, {}) for topic in owned for partition in topic.partitions
    )


def _without_unsubscribed(member: ConsumerMember, goal: Goal) -> ConsumerMember:
    """Partitions of topics that it no longer subscribes to go at once, before there is a new target."""
    gone = {topic: parts for topic, parts in member.assigned.items() if topic not in goal.subscribed}
    if not gone:
        return member
    assigned = {topic: parts for topic, parts in member.assigned.items() if topic in goal.subscribed}
    revoking = dict(member.revoking)
    for topic, parts in gone.items():
        revoking[topic] = {**revoking.get(topic, {}), **parts}
    if not _owns_any(goal.owned, revoking):
        return _moved(member, member.state, member.member_epoch, assigned, member.revoking)
    return _moved(member, UNREVOKED_PARTITIONS, member.member_epoch, assigned, revoking)


def _next(member: ConsumerMember, goal: Goal, member_epoch: int) -> ConsumerMember:
    assigned: dict[bytes, dict[int, int]] = {}
    revoking: dict[bytes, dict[int, int]] = {}
    granted: dict[bytes, dict[int, int]] = {}
    waits = False
    for topic in goal.target.keys() | member.assigned.keys():
        target = goal.target.get(topic, frozenset()) if topic in goal.subscribed else frozenset[int]()
        current = member.assigned.get(topic, {})
        own = member.revoking.get(topic, {})  # what was in its own way is not in its way
        wanted = target - current.keys()
        free = {partition for partition in wanted if partition in own or not goal.is_taken(topic, partition)}
        waits = waits or len(free) < len(wanted)
        kept = {partition: epoch for partition, epoch in current.items() if partition in target}
        if kept:
            assigned[topic] = kept
        if len(kept) < len(current):
            revoking[topic] = {part: epoch for part, epoch in current.items() if part not in target}
        if free:
            granted[topic] = {**kept, **dict.fromkeys(free, goal.assignment_epoch)}
    if revoking and _owns_any(goal.owned, revoking):
        return _moved(member, UNREVOKED_PARTITIONS, member_epoch, assigned, revoking)
    state = UNRELEASED_PARTITIONS if waits else STABLE
    return _moved(member, state, goal.assignment_epoch, {**assigned, **granted}, {})


def _moved(
    member: ConsumerMember, state: int, member_epoch: int, assigned: Assigned, revoking: Assigned
) -> ConsumerMember:
    return replace(
        member,
        state=state,
        member_epoch=member_epoch,
        previous_member_epoch=member.member_epoch,
        assigned=assigned,
        revoking=revoking,
    )
