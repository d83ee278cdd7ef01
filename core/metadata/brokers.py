"""Brokers register, are fenced and unfenced, shut down and are given up.

Checks, codes and sentences are those of Kafka's controller. Whether a broker lives is not for an image to
know: Kafka asks its heartbeats, we the slot table, and the caller says it.
"""

from collections.abc import Sequence

import msgspec

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.ids import parse_uuid
from tailrace.core.metadata.image import MetadataImage, PartitionImage
from tailrace.core.metadata.leadership import (
    PREFERRED,
    LeaderRules,
    ReplicaKey,
    difference,
    elect,
    elect_leaderless,
    leave_in_sync,
    replicas_died,
)
from tailrace.core.metadata.records import (
    BrokerChange,
    BrokerRegistered,
    BrokerUnregistered,
    Listener,
    PartitionChange,
    Record,
)

_RESERVED_DIRECTORY_IDS = 100  # the first of all uuids: Kafka gives them meanings of their own


class Registration(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """How a broker introduces itself; the incarnation id is new at each start."""

    broker_id: int
    incarnation_id: bytes
    listeners: tuple[Listener, ...]
    log_dirs: tuple[str, ...]  # ids of those that serve
    rack: str | None = None


class Registered(msgspec.Struct, kw_only=True, frozen=True):
    """Records to commit as one batch, and the epoch that the broker has from then on."""

    records: list[Record]
    broker_epoch: int


def check_broker_epoch(image: MetadataImage, broker_id: int, broker_epoch: int) -> None:
    """Raise STALE_BROKER_EPOCH unless this is the broker that is registered."""
    broker = image.brokers.get(broker_id)
    if broker is None:
        raise KafkaError(errors.STALE_BROKER_EPOCH, f"No broker registration found for broker id {broker_id}")
    if broker.broker_epoch != broker_epoch:
        raise KafkaError(
            errors.STALE_BROKER_EPOCH,
            f"Expected broker epoch {broker.broker_epoch}, but got broker epoch {broker_epoch}",
        )


def register(
    image: MetadataImage, asked: Registration, rules: LeaderRules, *, known_lives: bool
) -> Registered:
    """A broker registers, fenced until it is unfenced. A new incarnation is nowhere in sync where another
    broker is; the same one again amends what it said. KafkaError when it is refused.

    `known_lives`: the incarnation that the image knows of is alive. The records must be the next of the log,
    or the epoch would not be the offset of the registration.
    """
    known = image.brokers.get(asked.broker_id)
    is_known = known is not None and known.incarnation_id == asked.incarnation_id
    if known is not None and known_lives and not is_known:
        raise KafkaError(
            errors.DUPLICATE_BROKER_REGISTRATION, "Another broker is registered with that broker id."
        )
    _check_log_dirs(image, asked)
    if known is not None and is_known:
        record = _registered(
            asked,
            known.broker_epoch,
            fenced=known.fenced,
            in_controlled_shutdown=known.in_controlled_shutdown,
        )
        return Registered(records=[record], broker_epoch=known.broker_epoch)
    records = leave_in_sync(image, asked.broker_id, rules)
    epoch = image.metadata_offset + len(records)
    return Registered(records=[*records, _registered(asked, epoch, fenced=True)], broker_epoch=epoch)


def _registered(
    asked: Registration, epoch: int, *, fenced: bool, in_controlled_shutdown: bool = False
) -> BrokerRegistered:
    return BrokerRegistered(
        broker_id=asked.broker_id,
        broker_epoch=epoch,
        rack=asked.rack,
        incarnation_id=asked.incarnation_id,
        listeners=asked.listeners,
        log_dirs=asked.log_dirs,
        fenced=fenced,
        in_controlled_shutdown=in_controlled_shutdown,
    )


def _check_log_dirs(image: MetadataImage, asked: Registration) -> None:
    if not asked.log_dirs:
        raise _invalid("No directories specified in request")
    if any(map(_is_reserved, asked.log_dirs)):
        raise _invalid("Reserved directory ID in request")
    if len(set(asked.log_dirs)) != len(asked.log_dirs):
        raise _invalid("Duplicate directory ID in request")
    for log_dir in asked.log_dirs:
        for other in image.brokers.values():
            if log_dir in other.log_dirs and other.broker_id != asked.broker_id:
                raise _invalid(f"Broker {other.broker_id} is already registered with directory {log_dir}")


def _is_reserved(directory_id: str) -> bool:
    try:
        return int.from_bytes(parse_uuid(directory_id), "big") < _RESERVED_DIRECTORY_IDS
    except ValueError:
        return False


def _invalid(message: str) -> KafkaError:
    return KafkaError(errors.INVALID_REGISTRATION, message)


def start_all(
    image: MetadataImage, asked: Sequence[Registration], rules: LeaderRules
) -> tuple[list[Record], dict[int, int]]:
    """The host has started: no broker that the image knows of lives, and these are there from now on, not
    fenced. Returns the records, the next of the log, and each broker's epoch. KafkaError as `register`.

    Everything stopped at once, so who was in sync still is (R): one broker after the other would leave only
    the last in the ISR, though another may be the one whose disk lost nothing. Every partition gets a new
    leader epoch, and its preferred leader where that is in sync; `elect_leaderless` then finds one for those
    that allow an unclean election.
    """
    records: list[Record] = []
    epochs: dict[int, int] = {}
    for registration in asked:
        _check_log_dirs(image, registration)
        epochs[registration.broker_id] = image.metadata_offset + len(records)
        records.append(_registered(registration, epochs[registration.broker_id], fenced=False))
    for broker in image.brokers.values():
        if broker.broker_id not in epochs and not broker.fenced:
            records.append(
                BrokerChange(broker_id=broker.broker_id, broker_epoch=broker.broker_epoch, fenced=True)
            )
    log_dirs = {registration.broker_id: registration.log_dirs for registration in asked}
    records += [_started(topic.topic_id, partition, log_dirs, rules) for topic, partition in image.walk()]
    return records, epochs


def _started(
    topic_id: bytes, old: PartitionImage, log_dirs: dict[int, tuple[str, ...]], rules: LeaderRules
) -> PartitionChange:
    def may_lead(broker_id: int) -> bool:
        directory = old.directory_of(broker_id)
        return (
            broker_id in log_dirs
            and (not directory or directory in log_dirs[broker_id])
            and (topic_id, old.partition, broker_id) not in rules.unusable
        )

    leader, _ = elect(PREFERRED, old.leader, old.replicas, old.isr, may_lead)
    isr = tuple(filter(may_lead, old.isr)) or old.isr
    new = msgspec.structs.replace(old, leader=leader, isr=isr, leader_epoch=old.leader_epoch + 1)
    return difference(topic_id, old, new)


def fence(image: MetadataImage, broker_id: int, rules: LeaderRules) -> list[Record]:
    """The registered broker is dead: it leads nothing and is in sync nowhere where another is."""
    records = leave_in_sync(image, broker_id, rules)
    epoch = image.brokers[broker_id].broker_epoch
    records.append(BrokerChange(broker_id=broker_id, broker_epoch=epoch, fenced=True))
    return records


def unfence(image: MetadataImage, broker_id: int, rules: LeaderRules) -> list[Record]:
    """The registered broker serves: it may lead, and does at once what waited for it."""
    epoch = image.brokers[broker_id].broker_epoch
    change = BrokerChange(broker_id=broker_id, broker_epoch=epoch, fenced=False)
    return [change, *elect_leaderless(image, rules, also=(broker_id,))]


def shut_down(image: MetadataImage, broker_id: int, broker_epoch: int, rules: LeaderRules) -> list[Record]:
    """A broker is about to stop and says so: others lead in its place, where there are others. Once these
    records are committed `may_stop` says whether it can; asked again, they move what it got meanwhile.
    """
    check_broker_epoch(image, broker_id, broker_epoch)
    records: list[Record] = []
    if not image.brokers[broker_id].in_controlled_shutdown:
        records.append(
            BrokerChange(broker_id=broker_id, broker_epoch=broker_epoch, in_controlled_shutdown=True)
        )
    return records + leave_in_sync(image, broker_id, rules)


def may_stop(image: MetadataImage, broker_id: int) -> bool:
    """Whether it leads nothing any more."""
    return all(partition.leader != broker_id for _, partition in image.walk())


def unregister(image: MetadataImage, broker_id: int, rules: LeaderRules) -> list[Record]:
    """Forget a broker that will not come back; BROKER_ID_NOT_REGISTERED if there is none.

    As in Kafka its replicas stay where they are until they are reassigned.
    """
    broker = image.brokers.get(broker_id)
    if broker is None:
        raise KafkaError(
            errors.BROKER_ID_NOT_REGISTERED, f"Broker ID {broker_id} is not currently registered"
        )
    gone = BrokerUnregistered(broker_id=broker_id, broker_epoch=broker.broker_epoch)
    return [*leave_in_sync(image, broker_id, rules), gone]


def fail_log_dirs(
    image: MetadataImage, broker_id: int, failed: Sequence[str], rules: LeaderRules
) -> list[Record]:
    """These log directories of a broker are out of service: what lies in them is led by others. A broker
    that has no other is fenced.
    """
    broker = image.brokers[broker_id]
    lost = {directory for directory in failed if directory in broker.log_dirs}
    left = tuple(directory for directory in broker.log_dirs if directory not in lost)
    if not lost:
        return []
    if not left:
        return fence(image, broker_id, rules)
    gone: list[ReplicaKey] = [
        (topic.topic_id, partition.partition, broker_id)
        for topic, partition in image.walk()
        if broker_id in partition.isr and partition.directory_of(broker_id) in lost
    ]
    without = msgspec.structs.replace(rules, unusable=rules.unusable | frozenset(gone))
    change = BrokerChange(broker_id=broker_id, broker_epoch=broker.broker_epoch, log_dirs=left)
    return [*replicas_died(image, gone, without), change]
