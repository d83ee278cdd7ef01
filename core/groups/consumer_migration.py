"""Groups that change their protocol while they have members, as group.consumer.migration.policy allows.

upgrade    a member of the consumer protocol joins a classic group: the members there go on with what they
           own, in a KIP-848 group that begins in their generation
downgrade  the last member of the consumer protocol is gone: the others rebalance in a classic group whose
           generation is the epoch of the group before
"""

from collections.abc import Mapping
from typing import Final

from tailrace.core.errors import GROUP_ID_NOT_FOUND, KafkaError, ProtocolError
from tailrace.core.groups.classic import ClassicGroup
from tailrace.core.groups.classic_members import Member
from tailrace.core.groups.consumer_draft import ConsumerDraft
from tailrace.core.groups.consumer_member import ConsumerMember
from tailrace.core.groups.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolTopicPartitions,
    decode_assignment,
    decode_subscription,
    encode_consumer_protocol,
    version_of,
)
from tailrace.core.groups.records import (
    ClassicMemberMetadata,
    ClassicProtocol,
    GroupMetadataKey,
    GroupMetadataMember,
    GroupMetadataValue,
    encode_key,
    encode_value,
)
from tailrace.core.groups.runtime import GroupConfig
from tailrace.core.metadata.image import MetadataImage

CONSUMER: Final = "consumer"
MAY_UPGRADE: Final = {"upgrade", "bidirectional"}
MAY_DOWNGRADE: Final = {"downgrade", "bidirectional"}


def may_migrate(config: GroupConfig) -> bool:
    """Whether members of both protocols may be in one group."""
    return config.group_consumer_migration_policy.lower() in MAY_UPGRADE | MAY_DOWNGRADE


def upgraded_members(group: ClassicGroup, config: GroupConfig, image: MetadataImage) -> list[ConsumerMember]:
    """The members of a classic group as those of a KIP-848 group.

    Raises KafkaError GROUP_ID_NOT_FOUND if it must stay a classic one.
    """
    why = None
    if config.group_consumer_migration_policy.lower() not in MAY_UPGRADE:
        why = "online upgrade is disabled"
    elif group.protocol_type != CONSUMER:
        why = "the group does not use the consumer embedded protocol"
    elif len(group.members) > config.group_consumer_max_size:
        why = "the group size exceeds the consumer group maximum size"
    try:
        members = [] if why else [_upgraded(group, member, image) for member in group.members]
    except ProtocolError:
        why, members = "the embedded consumer protocol is malformed", []
    if why is not None:
        raise KafkaError(
            GROUP_ID_NOT_FOUND,
            f"Cannot upgrade classic group {group.group_id} to consumer group because {why}.",
        )
    return members


def _upgraded(group: ClassicGroup, member: Member, image: MetadataImage) -> ConsumerMember:
    first = next(iter(member.protocols.values()))  # of one that has joined again, and speaks another now
    subscription = decode_subscription(member.protocols.get(group.protocol_name or "", first))
    assigned: dict[bytes, dict[int, int]] = {}
    if member.assignment:
        assignment = decode_assignment(member.assignment)
        if assignment.user_data:
            raise KafkaError(
                GROUP_ID_NOT_FOUND,
                f"Cannot upgrade classic group {group.group_id} to consumer group because an unsupported"
                " custom assignor is in use. Please refer to the documentation or switch to a default"
                " assignor before re-attempting the upgrade.",
            )
        for topic in assignment.assigned_partitions:
            known = image.topics_by_name.get(topic.topic)
            if known is not None:
                assigned[known.topic_id] = dict.fromkeys(topic.partitions, group.generation)
    return ConsumerMember(
        member_id=member.member_id,
        member_epoch=group.generation,
        previous_member_epoch=group.generation,
        instance_id=member.group_instance_id,
        rack_id=subscription.rack_id,
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        client_id=member.client_id,
        client_host=member.client_host,
        topic_names=frozenset(subscription.topics),
        classic=ClassicMemberMetadata(
            member.session_timeout_ms, [ClassicProtocol(*protocol) for protocol in member.protocols.items()]
        ),
        assigned=assigned,
    )


def begin(draft: ConsumerDraft, generation: int, members: list[ConsumerMember]) -> None:
    """A new group, of these, in which everybody owns its target."""
    for member in members:
        draft.put_member(member)
    draft.put_epoch(generation)
    for member in members:
        draft.put_target(
            member.member_id, {topic_id: frozenset(parts) for topic_id, parts in member.assigned.items()}
        )
    draft.end_assignment()
    for member in members:
        draft.put_assignment(member)


def turn_classic(draft: ConsumerDraft, config: GroupConfig, image: MetadataImage, time_ms: int) -> bool:
    """Make a classic group of one that has only such members, if it may. Returns whether it was done."""
    members = list(draft.state.members.values())
    if (
        not members
        or any(member.classic is None for member in members)
        or config.group_consumer_migration_policy.lower() not in MAY_DOWNGRADE
        or len(members) > config.group_max_size
    ):
        return False
    protocols = {
        member.member_id: {each.name: each.metadata for each in member.classic.supported_protocols}
        for member in members
        if member.classic is not None
    }
    common = [
        name
        for name in protocols[members[0].member_id]
        if all(_has_version(known.get(name, b"")) for known in protocols.values())
    ]
    if not common:
        return False
    record = GroupMetadataValue(
        protocol_type=CONSUMER,
        generation=draft.state.group_epoch,
        protocol=common[0],
        current_state_timestamp=time_ms,
        members=[_downgraded(member, protocols[member.member_id][common[0]], image) for member in members],
    )
    draft.forget_group()
    draft.records.append((encode_key(GroupMetadataKey(draft.group_id)), encode_value(record)))
    return True


def _has_version(metadata: bytes) -> bool:
    """(R) Whether an assignment can be written for a member with this; joining looks at one protocol only."""
    try:
        return version_of(metadata) >= 0
    except ProtocolError:
        return False


def _downgraded(member: ConsumerMember, metadata: bytes, image: MetadataImage) -> GroupMetadataMember:
    """(R) It has what it may still read, where Kafka writes what it shall: a group that is upgraded again
    before all have joined again would else give away what was not given back.
    """
    assert member.classic is not None
    owned = {
        topic_id: frozenset(
            member.assigned.get(topic_id, {}).keys() | member.revoking.get(topic_id, {}).keys()
        )
        for topic_id in member.assigned.keys() | member.revoking.keys()
    }
    return GroupMetadataMember(
        member_id=member.member_id,
        group_instance_id=member.instance_id,
        client_id=member.client_id,
        client_host=member.client_host,
        rebalance_timeout=member.rebalance_timeout_ms,
        session_timeout=member.classic.session_timeout_ms,
        subscription=metadata,
        assignment=classic_assignment(owned, version_of(metadata), image),
    )


def classic_assignment(
    partitions: Mapping[bytes, Mapping[int, int] | frozenset[int]], version: int, image: MetadataImage
) -> bytes:
    """Partitions as members of the classic protocol are told them; those of lost topics are left out."""
    return encode_consumer_protocol(
        ConsumerProtocolAssignment(
            [
                ConsumerProtocolTopicPartitions(image.topics_by_id[topic_id].name, sorted(parts))
                for topic_id, parts in partitions.items()
                if topic_id in image.topics_by_id
            ]
        ),
        version,
    )
