"""Server-side assignors: which member of a KIP-848 group shall own which partitions.

Pure functions. Every partition of a topic goes to exactly one of the members subscribed to it.

    uniform   loads differ by at most one where all members subscribe to the same topics, and nearly so
              where they do not; no more partitions move than that takes
    range     a contiguous range of each topic for each of its subscribers, static members first, so that
              topics of one size are split alike
"""

from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush
from itertools import accumulate, pairwise
from typing import TypeAlias

from msgspec import Struct

Partitions: TypeAlias = Mapping[bytes, frozenset[int]]
"""Partitions by the id of their topic; no topic has none."""


class MemberSpec(Struct, frozen=True):
    """What an assignor knows about a member."""

    instance_id: str | None
    topic_ids: frozenset[bytes]  # subscribed to, and in the metadata
    target: Partitions  # what the last assignment gave it


Assignor: TypeAlias = Callable[[Mapping[str, MemberSpec], Mapping[bytes, int]], dict[str, Partitions]]
"""From members by id and numbers of partitions by topic id to the target of every member."""


def assign_range(members: Mapping[str, MemberSpec], counts: Mapping[bytes, int]) -> dict[str, Partitions]:
    """Contiguous ranges, topic by topic."""
    targets: dict[str, dict[bytes, frozenset[int]]] = {member_id: {} for member_id in members}
    order = sorted(members, key=lambda member_id: _range_order(member_id, members[member_id]))
    for topic_id, subscribers in _subscribers(order, members).items():
        quota, extra = divmod(counts[topic_id], len(subscribers))
        sizes = [quota + (place < extra) for place in range(len(subscribers))]
        for member_id, (start, end) in zip(subscribers, pairwise(accumulate(sizes, initial=0)), strict=True):
            if start < end:
                targets[member_id][topic_id] = frozenset(range(start, end))
    return dict(targets)


def _range_order(member_id: str, member: MemberSpec) -> tuple[bool, str]:
    """Static members first: they come back under the same name and find the same range."""
    return (member.instance_id is None, member.instance_id or member_id)


def assign_uniform(members: Mapping[str, MemberSpec], counts: Mapping[bytes, int]) -> dict[str, Partitions]:
    """Even loads, few moves."""
    return _Uniform(members, counts).assign()


def _subscribers(order: list[str], members: Mapping[str, MemberSpec]) -> dict[bytes, list[str]]:
    by_topic: dict[bytes, list[str]] = {}
    for member_id in order:
        for topic_id in members[member_id].topic_ids:
            by_topic.setdefault(topic_id, []).append(member_id)
    return by_topic


class _Uniform:
    """Keep what may be kept, give what nobody has to the least loaded, then even out topic by topic."""

    def __init__(self, members: Mapping[str, MemberSpec], counts: Mapping[bytes, int]) -> None:
        self._members = members
        self._counts = counts
        self._subscribers = _subscribers(sorted(members), members)
        # Those with most partitions to a subscriber first: the others even out what they leave.
        self._topics = sorted(
            self._subscribers,
            key=lambda topic_id: (-counts[topic_id] / len(self._subscribers[topic_id]), topic_id),
        )
        self._loads = dict.fromkeys(members, 0)
        self._owned: dict[bytes, dict[str, set[int]]] = {topic_id: {} for topic_id in self._topics}

    def assign(self) -> dict[str, Partitions]:
        """The target of every member."""
        for topic_id in self._topics:
            self._keep(topic_id)
        for topic_id in self._topics:
            self._give(topic_id)
        while sum(
            [self._even_out(topic_id) for topic_id in self._topics]
        ):  # each move makes the loads more even
            pass
        targets: dict[str, dict[bytes, frozenset[int]]] = {member_id: {} for member_id in self._members}
        for topic_id, owners in self._owned.items():
            for member_id, partitions in owners.items():
                if partitions:
                    targets[member_id][topic_id] = frozenset(partitions)
        return dict(targets)

    def _keep(self, topic_id: bytes) -> None:
        free = set(range(self._counts[topic_id]))
        for member_id in self._subscribers[topic_id]:
            kept = free & self._members[member_id].target.get(topic_id, frozenset())
            free -= kept
            self._owned[topic_id][member_id] = kept
            self._loads[member_id] += len(kept)
        self._owned[topic_id][""] = free  # nobody's

    def _give(self, topic_id: bytes) -> None:
        owned = self._owned[topic_id]
        free = owned.pop("")
        if not free:
            return
        least = [(self._loads[member_id], member_id) for member_id in self._subscribers[topic_id]]
        heapify(least)
        for partition in sorted(free):
            load, member_id = heappop(least)
            owned[member_id].add(partition)
            self._loads[member_id] = load + 1
            heappush(least, (load + 1, member_id))

    def _even_out(self, topic_id: bytes) -> int:
        """Move partitions of the topic from its most loaded owners to its least loaded subscribers.

        Returns how many.
        """
        loads, owned = self._loads, self._owned[topic_id]
        subscribers = self._subscribers[topic_id]
        least_load = min(loads[member_id] for member_id in subscribers)
        if max(loads[member_id] for member_id in subscribers) - least_load < 2:
            return 0
        least = [(loads[member_id], member_id) for member_id in subscribers]
        most = [(-loads[member_id], member_id) for member_id in subscribers if owned[member_id]]
        heapify(least)
        heapify(most)
        moved = 0
        while most:
            load, giver = -most[0][0], most[0][1]
            if load - least[0][0] < 2:  # whoever gives or takes stays within these two
                break
            taker_load, taker = heappop(least)
            heappop(most)
            partition = max(owned[giver])
            owned[giver].remove(partition)
            owned[taker].add(partition)
            loads[giver], loads[taker] = load - 1, taker_load + 1
            moved += 1
            heappush(least, (taker_load + 1, taker))
            if owned[giver]:
                heappush(most, (1 - load, giver))
        return moved


ASSIGNORS: dict[str, Assignor] = {"uniform": assign_uniform, "range": assign_range}
