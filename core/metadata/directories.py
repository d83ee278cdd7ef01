"""In which log directory each replica lies: chosen for new ones, changed when one was moved or found
elsewhere.
"""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import msgspec

from tailrace.core import errors
from tailrace.core.metadata.brokers import check_broker_epoch
from tailrace.core.metadata.image import MetadataImage, PartitionImage
from tailrace.core.metadata.leadership import (
    Key,
    LeaderRules,
    ReplicaKey,
    Target,
    candidates,
    change_partition,
    replicas_died,
)
from tailrace.core.metadata.records import PartitionChange, PartitionRecord, Record
from tailrace.core.metadata.requests import DirectoryResult


class AssignedDirectories(msgspec.Struct, kw_only=True, frozen=True):
    """Records to commit as one batch and the answers to give then, in the order asked."""

    records: list[Record]
    results: list[DirectoryResult]


def assign_directories(
    image: MetadataImage,
    broker_id: int,
    broker_epoch: int,
    asked: Sequence[tuple[str, Key]],
    rules: LeaderRules,
) -> AssignedDirectories:
    """A broker says in which of its log directories these replicas lie (AssignReplicasToDirs).
    STALE_BROKER_EPOCH raised for a broker that is not this one.

    A replica that lies in a directory that does not serve leads nothing from then on.
    """
    check_broker_epoch(image, broker_id, broker_epoch)
    log_dirs = image.brokers[broker_id].log_dirs
    records: list[Record] = []
    results: list[DirectoryResult] = []
    seen: set[Key] = set()
    for directory, (topic_id, index) in asked:
        code = _refusal(image, broker_id, topic_id, index)
        result = DirectoryResult(directory=directory, topic_id=topic_id, partition=index, error_code=code)
        results.append(result)
        if code or (topic_id, index) in seen:
            continue
        seen.add((topic_id, index))
        if log_dirs and directory not in log_dirs:
            records += _lost(image, (topic_id, index, broker_id), directory, rules)
        else:
            record = _moved(image, (topic_id, index), broker_id, directory, rules)
            if record is not None:
                records.append(record)
    return AssignedDirectories(records=records, results=results)


def _refusal(image: MetadataImage, broker_id: int, topic_id: bytes, index: int) -> int:
    if topic_id not in image.topics_by_id:
        return errors.UNKNOWN_TOPIC_ID
    partition = image.partition(topic_id, index)
    if partition is None:
        return errors.UNKNOWN_TOPIC_OR_PARTITION
    return errors.NONE if broker_id in partition.replicas else errors.NOT_LEADER_OR_FOLLOWER


def _moved(
    image: MetadataImage, key: Key, broker_id: int, directory: str, rules: LeaderRules
) -> PartitionChange | None:
    old = image.partition(*key)
    assert old is not None, "checked"
    moved = msgspec.structs.replace(old, directories=_with(old, broker_id, directory))
    may_lead = candidates(image, key[0], moved, rules)
    return change_partition(key[0], old, may_lead, target=Target(directories={broker_id: directory}))


def _with(old: PartitionImage, broker_id: int, directory: str) -> tuple[str, ...]:
    return tuple(
        directory if member == broker_id else known
        for member, known in zip(old.replicas, old.directories, strict=True)
    )


def _lost(image: MetadataImage, replica: ReplicaKey, directory: str, rules: LeaderRules) -> list[Record]:
    """One change, of the directory and of what follows from it."""
    topic_id, index, broker_id = replica
    old = image.partition(topic_id, index)
    assert old is not None, "checked"
    directories = _with(old, broker_id, directory)
    without = msgspec.structs.replace(rules, unusable=rules.unusable | {replica})
    found = replicas_died(image, [replica], without) if broker_id in old.isr else []
    for record in found:
        assert isinstance(record, PartitionChange)
        return [msgspec.structs.replace(record, directories=directories)]
    return [PartitionChange(topic_id=topic_id, partition=index, directories=directories)]


def replica_moved(
    image: MetadataImage, replica: ReplicaKey, directory: str, rules: LeaderRules
) -> PartitionChange | None:
    """Its log is in another directory now, where it is opened anew: as leader in an epoch of its own. None if
    that directory does not serve, or it is no replica any more.

    (R) Its process must not append in the epoch before any more.
    """
    topic_id, index, broker_id = replica
    old = image.partition(topic_id, index)
    if old is None or broker_id not in old.replicas or not image.serves_from(broker_id, directory):
        return None
    moved = msgspec.structs.replace(old, directories=_with(old, broker_id, directory))
    target = Target(directories={broker_id: directory}, new_epoch=old.leader == broker_id)
    return change_partition(topic_id, old, candidates(image, topic_id, moved, rules), target=target)


def fill_directories(
    image: MetadataImage,
    records: Sequence[Record],
    wished: Mapping[ReplicaKey, str] = MappingProxyType({}),
    failed: Collection[str] = (),
) -> list[Record]:
    """The records with a log directory for each new replica: the one that is wished, or of those that its
    broker serves from the one with the fewest logs, as in Kafka. Without any that is left for the broker to
    say.

    `failed`: directories that are out of service, though the image does not know it yet.
    """
    choice = _Choice(image, wished, failed)
    chosen: list[Record] = []
    for record in records:
        if isinstance(record, PartitionRecord | PartitionChange):
            replicas, known = record.replicas, record.directories
            if replicas and (known or isinstance(record, PartitionRecord)):
                record = msgspec.structs.replace(
                    record, directories=choice.fill(record, replicas, known or ())
                )
        chosen.append(record)
    return chosen


class _Choice:
    """How many logs each directory has, with those that were chosen."""

    def __init__(
        self, image: MetadataImage, wished: Mapping[ReplicaKey, str], failed: Collection[str]
    ) -> None:
        self._image = image
        self._wished = wished
        self._failed = failed
        self._logs = dict(image.logs_by_directory)

    def fill(
        self, record: PartitionRecord | PartitionChange, replicas: Sequence[int], known: Sequence[str]
    ) -> tuple[str, ...]:
        """A directory for each replica that has none."""
        return tuple(
            directory or self._pick((record.topic_id, record.partition, broker_id))
            for broker_id, directory in zip(replicas, known or ("",) * len(replicas), strict=True)
        )

    def _pick(self, replica: ReplicaKey) -> str:
        broker = self._image.brokers.get(replica[2])
        serving = broker.log_dirs if broker is not None else ()
        wish = self._wished.get(replica, "")
        if wish and wish not in self._failed and self._image.serves_from(replica[2], wish):
            return wish
        offered = [log_dir for log_dir in serving if log_dir not in self._failed] or serving
        if not offered:
            return ""
        found = min(offered, key=lambda log_dir: self._logs.get(log_dir, 0))
        self._logs[found] = self._logs.get(found, 0) + 1
        return found
