"""The durable state of a KIP-848 group: what its records say, and what follows from them.

Three epochs, each of which only grows: the group's with every change of members, subscriptions or their
topics; the assignment's is the group epoch it was made for; a member's is the assignment epoch it has got to.

    ConsumerGroupMetadata           group_epoch, metadata_hash
    ConsumerGroupMemberMetadata     a member: who it is, what it subscribes to
    ConsumerGroupRegularExpression  topics of a pattern
    ...TargetAssignmentMetadata     assignment_epoch
    ...TargetAssignmentMember       what a member shall own
    ...CurrentMemberAssignment      a member: its epoch, what it owns and gives back
"""

from copy import copy
from hashlib import blake2b
from typing import Final

from msgspec.structs import replace

from tailrace.core.groups.assignors import Partitions
from tailrace.core.groups.consumer_member import (
    LEFT,
    ConsumerMember,
    with_assignment,
    with_metadata,
)
from tailrace.core.groups.records import (
    ConsumerGroupCurrentMemberAssignmentKey,
    ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey,
    ConsumerGroupMemberMetadataValue,
    ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue,
    ConsumerGroupPartitionMetadataKey,
    ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue,
)
from tailrace.core.metadata.image import MetadataImage

FIRST_EPOCH: Final = 1
NO_TARGET: Partitions = {}


class ConsumerState:
    """Changed by `replay` alone. Members, targets and patterns are to be read only."""

    def __init__(self) -> None:
        self.exists = False  # has records
        self.group_epoch = self.assignment_epoch = FIRST_EPOCH
        self.metadata_hash = 0
        self.members: dict[str, ConsumerMember] = {}
        self.static_members: dict[str, str] = {}  # instance id -> member id
        self.targets: dict[str, Partitions] = {}
        self.patterns: dict[str, frozenset[str]] = {}  # -> the topics that match
        self.has_partition_metadata = False  # a record of Kafka before 4.1
        self._taken: dict[
            bytes, dict[int, int]
        ] = {}  # partitions owned or not given back -> epoch of their owner
        self._state: str | None = None

    def copy(self) -> "ConsumerState":
        """One that goes its own way."""
        other = copy(self)
        other.members = self.members.copy()
        other.static_members = self.static_members.copy()
        other.targets = self.targets.copy()
        other.patterns = self.patterns.copy()
        other._taken = {topic_id: parts.copy() for topic_id, parts in self._taken.items()}
        return other

    # -- what follows

    @property
    def state(self) -> str:
        """Empty, Assigning, Reconciling or Stable."""
        if self._state is None:
            self._state = self._find_state()
        return self._state

    def _find_state(self) -> str:
        if not self.members:
            return "Empty"
        if self.group_epoch > self.assignment_epoch:
            return "Assigning"
        if all(member.is_reconciled_to(self.assignment_epoch) for member in self.members.values()):
            return "Stable"
        return "Reconciling"

    def static_member(self, instance_id: str) -> ConsumerMember | None:
        """Who has this instance id, also while it is away."""
        member_id = self.static_members.get(instance_id)
        return None if member_id is None else self.members[member_id]

    def is_taken(self, topic_id: bytes, partition: int) -> bool:
        """Whether a member owns the partition or has not given it back."""
        return partition in self._taken.get(topic_id, ())

    def topic_names(self, member: ConsumerMember) -> frozenset[str]:
        """What a member subscribes to, by name and by pattern."""
        if not member.topic_regex:
            return member.topic_names
        return member.topic_names | self.patterns.get(member.topic_regex, frozenset())

    def topic_ids(self, member: ConsumerMember, image: MetadataImage) -> frozenset[bytes]:
        """The topics among them that exist."""
        topics = image.topics_by_name
        return frozenset(topics[name].topic_id for name in self.topic_names(member) if name in topics)

    def subscribed_topics(self) -> set[str]:
        """What all members together subscribe to."""
        return {name for member in self.members.values() for name in self.topic_names(member)}

    def subscribers(self, pattern: str) -> int:
        """How many members subscribe by this pattern."""
        return sum(member.topic_regex == pattern for member in self.members.values())

    def hash_of_topics(self, image: MetadataImage) -> int:
        """A number that changes when a subscribed topic comes, goes or grows; 0: none exists."""
        topics = sorted(self.subscribed_topics() & image.topics_by_name.keys())
        if not topics:
            return 0
        digest = blake2b(digest_size=8)
        for name in topics:
            topic = image.topics_by_name[name]
            digest.update(topic.topic_id + len(topic.partitions).to_bytes(4, "big"))
        return int.from_bytes(digest.digest(), "big", signed=True)

    # -- records

    def replay(self, key: object, value: object | None) -> None:
        """One record; those of other kinds are not for this group."""
        self._state = None
        self.exists = self.exists or value is not None
        match key:
            case ConsumerGroupCurrentMemberAssignmentKey():
                assert value is None or isinstance(value, ConsumerGroupCurrentMemberAssignmentValue)
                self._replay_current(key.member_id, value)
            case ConsumerGroupMemberMetadataKey():
                assert value is None or isinstance(value, ConsumerGroupMemberMetadataValue)
                self._replay_member(key.member_id, value)
            case ConsumerGroupTargetAssignmentMemberKey():
                assert value is None or isinstance(value, ConsumerGroupTargetAssignmentMemberValue)
                self._replay_target(key.member_id, value)
            case ConsumerGroupTargetAssignmentMetadataKey():
                assert value is None or isinstance(value, ConsumerGroupTargetAssignmentMetadataValue)
                self.assignment_epoch = FIRST_EPOCH if value is None else value.assignment_epoch
            case ConsumerGroupMetadataKey():
                assert value is None or isinstance(value, ConsumerGroupMetadataValue)
                self._replay_group(value)
            case ConsumerGroupRegularExpressionKey():
                assert value is None or isinstance(value, ConsumerGroupRegularExpressionValue)
                self._replay_pattern(key.regular_expression, value)
            case ConsumerGroupPartitionMetadataKey():
                self.has_partition_metadata = value is not None
            case _:
                raise AssertionError(f"{key!r} is no key of a consumer group")

    def _replay_group(self, value: ConsumerGroupMetadataValue | None) -> None:
        if value is None:
            assert not self.members, "the members of a group end before it does"
            self.exists = False
            self.group_epoch, self.metadata_hash = FIRST_EPOCH, 0
        else:
            self.group_epoch, self.metadata_hash = value.epoch, value.metadata_hash

    def _replay_member(self, member_id: str, value: ConsumerGroupMemberMetadataValue | None) -> None:
        before = self.members.get(member_id)
        old_name = before.instance_id if before is not None else None
        if old_name is not None and self.static_members.get(old_name) == member_id:
            del self.static_members[old_name]
        if value is not None:
            member = with_metadata(before or ConsumerMember(member_id=member_id), value)
            self.members[member_id] = member
            if member.instance_id is not None:
                self.static_members[member.instance_id] = member_id
        elif before is not None:
            self._release(before)
            del self.members[member_id]

    def _replay_current(
        self, member_id: str, value: ConsumerGroupCurrentMemberAssignmentValue | None
    ) -> None:
        before = self.members.get(member_id)
        if value is not None:
            member = with_assignment(before or ConsumerMember(member_id=member_id), value)
        elif before is not None:
            member = replace(before, member_epoch=LEFT, previous_member_epoch=LEFT, assigned={}, revoking={})
        else:
            return
        if before is not None:
            self._release(before)
        self.members[member_id] = member
        self._take(member)

    def _replay_target(self, member_id: str, value: ConsumerGroupTargetAssignmentMemberValue | None) -> None:
        if value is None:
            self.targets.pop(member_id, None)
        else:
            self.targets[member_id] = {
                topic.topic_id: frozenset(topic.partitions) for topic in value.topic_partitions
            }

    def _replay_pattern(self, pattern: str, value: ConsumerGroupRegularExpressionValue | None) -> None:
        if value is None:
            self.patterns.pop(pattern, None)
        else:
            self.patterns[pattern] = frozenset(value.topics)

    # -- who owns

    def _take(self, member: ConsumerMember) -> None:
        for partitions in (member.assigned, member.revoking):
            for topic_id, parts in partitions.items():
                taken = self._taken.setdefault(topic_id, {})
                for partition in parts:
                    taken[partition] = max(member.member_epoch, taken.get(partition, member.member_epoch))

    def _release(self, member: ConsumerMember) -> None:
        """What it had is free, unless another got it in a later epoch: compaction drops records."""
        for partitions in (member.assigned, member.revoking):
            for topic_id, parts in partitions.items():
                taken = self._taken.get(topic_id, {})
                for partition in parts:
                    if taken.get(partition) == member.member_epoch:
                        del taken[partition]
                if not taken:
                    self._taken.pop(topic_id, None)
