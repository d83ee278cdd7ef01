"""What a heartbeat, a leave or a timeout makes of a KIP-848 group: records, and the group after them.

A draft is a copy of the group's state into which its own records are replayed at once, so that each step
decides on what the step before it wrote. The group itself replays them when they are in the log.
"""

from collections.abc import Sequence

from tailrace.core.groups.assignors import ASSIGNORS, MemberSpec, Partitions
from tailrace.core.groups.consumer_member import ConsumerMember, assignment_of, metadata_of
from tailrace.core.groups.consumer_reconciliation import Goal, TopicPartitions, reconcile
from tailrace.core.groups.consumer_state import NO_TARGET, ConsumerState
from tailrace.core.groups.records import (
    ConsumerGroupCurrentMemberAssignmentKey,
    ConsumerGroupMemberMetadataKey,
    ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue,
    ConsumerGroupPartitionMetadataKey,
    ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue,
    KeyMessage,
    TargetAssignmentTopicPartitions,
    ValueMessage,
    encode_key,
    encode_value,
)
from tailrace.core.groups.runtime import Record, Runtime
from tailrace.core.groups.topic_pattern import check_pattern, topics_matching


class ConsumerDraft:
    """`state` is the group as it will be, `records` what makes it so."""

    def __init__(self, runtime: Runtime, group_id: str, state: ConsumerState) -> None:
        self.state = state.copy()
        self.records: list[Record] = []
        self._runtime = runtime
        self.group_id = group_id

    def put(self, key: KeyMessage, value: ValueMessage | None) -> None:
        """A record of this group."""
        self.records.append((encode_key(key), encode_value(value)))
        self.state.replay(key, value)

    # -- members

    def put_member(self, member: ConsumerMember) -> None:
        """Who it is and what it subscribes to."""
        self.put(ConsumerGroupMemberMetadataKey(self.group_id, member.member_id), metadata_of(member))

    def put_assignment(self, member: ConsumerMember) -> None:
        """Its epoch and what it owns."""
        self.put(
            ConsumerGroupCurrentMemberAssignmentKey(self.group_id, member.member_id), assignment_of(member)
        )

    def replace_member(self, old: ConsumerMember, new: ConsumerMember) -> None:
        """A static member is back, usually under another member id: it takes over target and partitions."""
        target = self.state.targets.get(old.member_id, NO_TARGET)
        self._remove(old.member_id)
        self.put_member(new)
        self.put_target(new.member_id, target)
        self.put_assignment(new)

    def remove(self, members: Sequence[ConsumerMember]) -> None:
        """These are out; what they owned is free, and not yet anybody else's: `bump`."""
        for member in members:
            self._remove(member.member_id)
            self.forget_pattern(member.topic_regex)

    def advance(
        self,
        before: ConsumerMember,
        member: ConsumerMember,
        looks: bool,
        owned: Sequence[TopicPartitions] | None,
    ) -> ConsumerMember:
        """Take in what a member says of itself, and the topics if it is time; assign; take a step.

        Returns the member after that step. Raises KafkaError for a pattern that is none.
        """
        if member != before or member.member_id not in self.state.members:
            self.put_member(member)
        pattern = member.topic_regex
        new_pattern = pattern != before.topic_regex
        if new_pattern:
            if pattern and pattern not in self.state.patterns:
                check_pattern(pattern)
                self.resolve(pattern)
            self.forget_pattern(before.topic_regex)
        if looks:
            self.resolve_all()
        changed = new_pattern or member.topic_names != before.topic_names
        if changed or (looks and self.topics_changed()):
            self.bump()
        if self.state.assignment_epoch < self.state.group_epoch:
            self.assign()
        return self.reconcile(member, changed, owned)

    def _remove(self, member_id: str) -> None:
        self.put(ConsumerGroupCurrentMemberAssignmentKey(self.group_id, member_id), None)
        self.put(ConsumerGroupTargetAssignmentMemberKey(self.group_id, member_id), None)
        self.put(ConsumerGroupMemberMetadataKey(self.group_id, member_id), None)

    def forget_group(self) -> None:
        """An end to all its records."""
        members, patterns = list(self.state.members), list(self.state.patterns)
        for member_id in members:
            self.put(ConsumerGroupCurrentMemberAssignmentKey(self.group_id, member_id), None)
        for member_id in members:
            self.put(ConsumerGroupTargetAssignmentMemberKey(self.group_id, member_id), None)
        self.put(ConsumerGroupTargetAssignmentMetadataKey(self.group_id), None)
        for member_id in members:
            self.put(ConsumerGroupMemberMetadataKey(self.group_id, member_id), None)
        for pattern in patterns:
            self.put(ConsumerGroupRegularExpressionKey(self.group_id, pattern), None)
        self.put(ConsumerGroupPartitionMetadataKey(self.group_id), None)
        self.put(ConsumerGroupMetadataKey(self.group_id), None)

    # -- patterns

    def forget_pattern(self, pattern: str) -> None:
        """If nobody subscribes by it any more."""
        if pattern in self.state.patterns and not self.state.subscribers(pattern):
            self.put(ConsumerGroupRegularExpressionKey(self.group_id, pattern), None)

    def resolve(self, pattern: str) -> None:
        """Look for the topics that match."""
        image = self._runtime.image
        topics = topics_matching(pattern, image.topics_by_name)
        if self.state.patterns.get(pattern) != topics:
            self.put(
                ConsumerGroupRegularExpressionKey(self.group_id, pattern),
                ConsumerGroupRegularExpressionValue(
                    topics=sorted(topics), version=image.metadata_offset, timestamp=self._runtime.time_ms
                ),
            )

    def resolve_all(self) -> None:
        """Look again for the topics of every pattern."""
        for pattern in {member.topic_regex for member in self.state.members.values()} - {""}:
            self.resolve(pattern)

    # -- epochs

    def put_epoch(self, epoch: int) -> None:
        """The group's epoch, for the topics that are there now."""
        self.put(
            ConsumerGroupMetadataKey(self.group_id),
            ConsumerGroupMetadataValue(
                epoch=epoch, metadata_hash=self.state.hash_of_topics(self._runtime.image)
            ),
        )

    def bump(self) -> None:
        """The next group epoch: the assignment is out of date."""
        self.put_epoch(self.state.group_epoch + 1)
        if self.state.has_partition_metadata:
            self.put(ConsumerGroupPartitionMetadataKey(self.group_id), None)

    def topics_changed(self) -> bool:
        """Whether a subscribed topic came, went or got partitions since the last bump."""
        return self.state.hash_of_topics(self._runtime.image) != self.state.metadata_hash

    def assign(self) -> None:
        """A target for every member in the group's epoch."""
        state, image = self.state, self._runtime.image
        specs = {
            member_id: MemberSpec(
                member.instance_id,
                state.topic_ids(member, image),
                state.targets.get(member_id, NO_TARGET),
            )
            for member_id, member in state.members.items()
        }
        topic_ids = {topic_id for spec in specs.values() for topic_id in spec.topic_ids}
        counts = {topic_id: len(image.topics_by_id[topic_id].partitions) for topic_id in topic_ids}
        assign = ASSIGNORS[preferred_assignor(state, self._runtime.config.group_consumer_assignors)]
        for member_id, target in assign(specs, counts).items():
            if target != state.targets.get(member_id):
                self.put_target(member_id, target)
        self.end_assignment()

    def end_assignment(self) -> None:
        """All targets are of the group's epoch."""
        self.put(
            ConsumerGroupTargetAssignmentMetadataKey(self.group_id),
            ConsumerGroupTargetAssignmentMetadataValue(
                assignment_epoch=self.state.group_epoch, assignment_timestamp=self._runtime.time_ms
            ),
        )

    def put_target(self, member_id: str, target: Partitions) -> None:
        """What it shall own."""
        self.put(
            ConsumerGroupTargetAssignmentMemberKey(self.group_id, member_id),
            ConsumerGroupTargetAssignmentMemberValue(
                topic_partitions=[
                    TargetAssignmentTopicPartitions(topic_id, sorted(parts))
                    for topic_id, parts in target.items()
                ]
            ),
        )

    def reconcile(
        self, member: ConsumerMember, subscription_changed: bool, owned: Sequence[TopicPartitions] | None
    ) -> ConsumerMember:
        """The member one step nearer to its target."""
        state = self.state
        if not subscription_changed and member.is_reconciled_to(state.assignment_epoch):
            return member
        goal = Goal(
            state.assignment_epoch,
            state.targets.get(member.member_id, NO_TARGET),
            state.topic_ids(member, self._runtime.image),
            subscription_changed,
            state.is_taken,
            owned,
        )
        moved = reconcile(member, goal)
        if moved != member:
            self.put_assignment(moved)
        return moved


def preferred_assignor(state: ConsumerState, assignors: tuple[str, ...]) -> str:
    """The one that most members ask for; of equals the one named first in the configuration."""
    votes = dict.fromkeys(assignors, 0)
    for member in state.members.values():
        if member.server_assignor in votes:
            votes[member.server_assignor] += 1
    return max(votes, key=lambda name: votes[name])
