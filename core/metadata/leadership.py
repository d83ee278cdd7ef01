"""Who leads a partition, and who is in sync when replicas go and come.

Everything that changes a partition goes through `change_partition`. Its rules are Kafka's without eligible
leader replicas (KIP-966): a leader is in the ISR and alive; the last member of an ISR stays in it, without a
leader, when it dies; only an unclean election, where a topic allows it, takes somebody else. Such an election
begins a lineage: what leaders before it had committed no longer counts.

These functions say what is to become of a partition. When is their caller's: (R) a leader is replaced only
once its incarnation is dead or has resigned; `leaders_replaced` says which have to resign first.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence

import msgspec

from tailrace.core.config_keys import UNCLEAN_ELECTION
from tailrace.core.metadata.image import MetadataImage, PartitionImage
from tailrace.core.metadata.records import NO_LEADER, RESOURCE_BROKER, PartitionChange, Record

ONLINE = 0  # the leader stays while it may lead, else the first in sync that may
PREFERRED = 1  # the first replica, if it may lead
UNCLEAN = 2  # as ONLINE, and then anybody alive

Key = tuple[bytes, int]  # topic id and partition
ReplicaKey = tuple[bytes, int, int]  # and the broker
MayLead = Callable[[int], bool]


class LeaderRules(msgspec.Struct, kw_only=True, frozen=True):
    """What elections go by, beyond the image."""

    unclean_election: bool = False  # the broker's own unclean.leader.election.enable
    unusable: frozenset[ReplicaKey] = frozenset()  # not served, though broker and log directory are there


def unclean_allowed(image: MetadataImage, topic: str, rules: LeaderRules) -> bool:
    """Whether this topic prefers a leader that lacks records to none: its own config, then the cluster's."""
    own = image.topic_configs(topic).get(UNCLEAN_ELECTION)
    if own is None:
        own = image.configs.get((RESOURCE_BROKER, ""), {}).get(UNCLEAN_ELECTION)
    return rules.unclean_election if own is None else own.lower() == "true"


def election_of(image: MetadataImage, topic: str, rules: LeaderRules) -> int:
    """How a partition of this topic gets a leader when it needs one."""
    return UNCLEAN if unclean_allowed(image, topic, rules) else ONLINE


def candidates(
    image: MetadataImage,
    topic_id: bytes,
    partition: PartitionImage,
    rules: LeaderRules,
    *,
    without: Container[int] = (),
    also: Container[int] = (),
) -> MayLead:
    """Whether a broker may lead: active (or in `also`: its unfencing is being decided), not in `without`, and
    with a log directory that serves.
    """

    def may_lead(broker_id: int) -> bool:
        return (
            broker_id not in without
            and (broker_id in also or image.is_active(broker_id))
            and image.serves_from(broker_id, partition.directory_of(broker_id))
            and (topic_id, partition.partition, broker_id) not in rules.unusable
        )

    return may_lead


def elect(
    election: int, leader: int, replicas: Sequence[int], isr: Sequence[int], may_lead: MayLead
) -> tuple[int, bool]:
    """The next leader, NO_LEADER if there is none to have, and whether it was elected uncleanly."""
    order = [replicas[0], leader, *replicas] if election == PREFERRED else [leader, *replicas]
    for broker_id in order:
        if broker_id in isr and may_lead(broker_id):
            return broker_id, False
    if election == UNCLEAN:
        for broker_id in replicas:
            if may_lead(broker_id):
                return broker_id, True
    return NO_LEADER, False


class Target(msgspec.Struct, kw_only=True, frozen=True):
    """What is wanted of a partition; None: as it is. `directories` are by broker id."""

    isr: Sequence[int] | None = None
    replicas: Sequence[int] | None = None
    adding: Sequence[int] | None = None
    removing: Sequence[int] | None = None
    directories: Mapping[int, str] = {}
    unclean: bool = False  # `isr` names somebody who may lack records
    new_epoch: bool = False  # its leader has started anew


AS_IT_IS = Target()


def change_partition(
    topic_id: bytes,
    old: PartitionImage,
    may_lead: MayLead,
    election: int = ONLINE,
    target: Target = AS_IT_IS,
) -> PartitionChange | None:
    """The record that brings the partition there: with a leader for it, and with the end of a reassignment
    whose new replicas are in sync. None if nothing changes.
    """
    isr = old.isr if target.isr is None else tuple(target.isr)
    replicas = old.replicas if target.replicas is None else tuple(target.replicas)
    adding = old.adding if target.adding is None else tuple(target.adding)
    removing = old.removing if target.removing is None else tuple(target.removing)
    if (adding or removing) and is_complete(replicas, isr, adding, removing):
        replicas = tuple(broker_id for broker_id in replicas if broker_id not in removing)
        isr = tuple(broker_id for broker_id in isr if broker_id not in removing)
        adding = removing = ()
    leader, unclean = elect(election, old.leader, replicas, isr, may_lead)
    if unclean:
        isr = (leader,)
    leader_epoch = old.leader_epoch
    if leader != old.leader or target.new_epoch or not set(old.replicas) <= set(replicas):
        leader_epoch += 1  # as Kafka also where a replica goes: the leader must stop counting it
    known = dict(zip(old.replicas, old.directories, strict=True)) | dict(target.directories)
    new = PartitionImage(
        partition=old.partition,
        replicas=replicas,
        isr=isr or old.isr,  # (R) the last one in sync has every record: it is not forgotten
        leader=leader,
        leader_epoch=leader_epoch,
        partition_epoch=old.partition_epoch,
        directories=tuple(known.get(broker_id, "") for broker_id in replicas),
        adding=adding,
        removing=removing,
        lineage=leader_epoch if unclean or target.unclean else old.lineage,
    )
    return None if new == old else difference(topic_id, old, new)


def difference(topic_id: bytes, old: PartitionImage, new: PartitionImage) -> PartitionChange:
    """The record that makes the one of the other."""
    return PartitionChange(
        topic_id=topic_id,
        partition=old.partition,
        leader=None if new.leader == old.leader else new.leader,
        leader_epoch=None if new.leader_epoch == old.leader_epoch else new.leader_epoch,
        isr=None if new.isr == old.isr else new.isr,
        replicas=None if new.replicas == old.replicas else new.replicas,
        adding=None if new.adding == old.adding else new.adding,
        removing=None if new.removing == old.removing else new.removing,
        directories=None if new.directories == old.directories else new.directories,
        lineage=None if new.lineage == old.lineage else new.lineage,
    )


def is_complete(
    replicas: Sequence[int], isr: Sequence[int], adding: Sequence[int], removing: Sequence[int]
) -> bool:
    """Whether a reassignment can end: all that are added are in sync and somebody who stays is; where it
    leaves fewer replicas, all that stay.
    """
    left = [broker_id for broker_id in replicas if broker_id not in removing]
    in_sync = [broker_id for broker_id in isr if broker_id not in removing]
    if not left or not in_sync or not set(adding) <= set(in_sync):
        return False
    return len(adding) >= len(removing) or set(left) <= set(in_sync)


def replicas_died(image: MetadataImage, dead: Iterable[ReplicaKey], rules: LeaderRules) -> list[Record]:
    """What follows when these replicas' processes are dead though their brokers live.

    They leave the ISR and another of it leads. Where nobody else in sync may lead, the leader starts anew in
    place, in its next epoch, with its ISR. Unusable ones do not: their partition has no leader then.
    """
    records: list[Record] = []
    for (topic_id, index), brokers in _by_partition(dead).items():
        topic, partition = image.topics_by_id.get(topic_id), image.partition(topic_id, index)
        if topic is None or partition is None:  # deleted meanwhile
            continue
        election = election_of(image, topic.name, rules)
        record = _without_dead(image, topic_id, partition, brokers, rules, election)
        if record is not None:
            records.append(record)
    return records


def _without_dead(
    image: MetadataImage,
    topic_id: bytes,
    old: PartitionImage,
    dead: set[int],
    rules: LeaderRules,
    election: int,
) -> PartitionChange | None:
    others = candidates(image, topic_id, old, rules, without=dead)
    left = [broker_id for broker_id in old.isr if broker_id not in dead]
    again = candidates(image, topic_id, old, rules)
    if not any(map(others, left)) and old.leader in dead and again(old.leader):
        return change_partition(topic_id, old, again, ONLINE, Target(new_epoch=True))
    return change_partition(topic_id, old, others, election, Target(isr=left))


def leave_in_sync(image: MetadataImage, broker_id: int, rules: LeaderRules) -> list[Record]:
    """What follows when a broker is gone: it is in sync nowhere where another is, and leads nothing."""
    records: list[Record] = []
    for topic, old in image.walk():
        if broker_id in old.isr:
            may_lead = candidates(image, topic.topic_id, old, rules, without=(broker_id,))
            left = [member for member in old.isr if member != broker_id]
            election = election_of(image, topic.name, rules)
            record = change_partition(topic.topic_id, old, may_lead, election, Target(isr=left))
            if record is not None:
                records.append(record)
    return records


def elect_leaderless(
    image: MetadataImage, rules: LeaderRules, *, also: Container[int] = (), limit: int | None = None
) -> list[Record]:
    """Leaders for partitions without one, as far as there are: when a broker, a log directory or a replica
    serves again, and from time to time for those that allow an unclean election. At most `limit`.
    """
    records: list[Record] = []
    for topic, old in image.walk():
        if old.leader == NO_LEADER and (limit is None or len(records) < limit):
            may_lead = candidates(image, topic.topic_id, old, rules, also=also)
            election = election_of(image, topic.name, rules)
            record = change_partition(topic.topic_id, old, may_lead, election)
            if record is not None:
                records.append(record)
    return records


def serve_again(image: MetadataImage, again: Iterable[ReplicaKey], rules: LeaderRules) -> list[Record]:
    """What follows when these replicas can serve after they could not: those that lead get an epoch of their
    own, and a partition without leader gets one if it can.
    """
    records: list[Record] = []
    for (topic_id, index), brokers in _by_partition(again).items():
        topic, old = image.topics_by_id.get(topic_id), image.partition(topic_id, index)
        if topic is None or old is None or old.leader not in {NO_LEADER, *brokers}:
            continue
        may_lead = candidates(image, topic_id, old, rules)
        target = Target(new_epoch=old.leader != NO_LEADER)
        record = change_partition(topic_id, old, may_lead, election_of(image, topic.name, rules), target)
        if record is not None:
            records.append(record)
    return records


def _by_partition(replicas: Iterable[ReplicaKey]) -> dict[Key, set[int]]:
    found: dict[Key, set[int]] = {}
    for topic_id, index, broker_id in replicas:
        found.setdefault((topic_id, index), set()).add(broker_id)
    return found


def leaders_replaced(image: MetadataImage, records: Iterable[Record]) -> list[ReplicaKey]:
    """The leaders that these changes put others in the place of, or nobody. (R) Each has to be dead or to
    have resigned before the records are staged; then they are decided anew.
    """
    replaced: list[ReplicaKey] = []
    for record in records:
        if isinstance(record, PartitionChange) and record.leader is not None:
            old = image.partition(record.topic_id, record.partition)
            if old is not None and old.leader not in (NO_LEADER, record.leader):
                replaced.append((record.topic_id, record.partition, old.leader))
    return replaced
