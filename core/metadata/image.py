"""The cluster's state at one offset of the metadata log.

An image changes only by replaying committed records, a whole batch at a time; what is read from it between
two replays is consistent. Partitions are frozen: whoever keeps one sees it as it was.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from tailrace.core.metadata.records import (
    NO_LEADER,
    RESOURCE_GROUP,
    RESOURCE_TOPIC,
    BrokerChange,
    BrokerRegistered,
    BrokerUnregistered,
    ConfigRecord,
    FeatureLevel,
    PartitionChange,
    PartitionRecord,
    ProducerIdsBlock,
    Record,
    TopicRecord,
    TopicRemoved,
)


class PartitionImage(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """One partition as committed. The first of `replicas` is the preferred leader."""

    partition: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    leader: int  # NO_LEADER: none; then the ISR still has who was in it last
    leader_epoch: int
    partition_epoch: int
    directories: tuple[str, ...]  # ids of the log directories, one a replica; empty: not known yet
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()
    lineage: int = -1  # leader epoch of the last unclean election; -1: never

    @property
    def directory(self) -> str:
        """That of the first replica."""
        return self.directories[0]

    def directory_of(self, broker_id: int) -> str:
        """The log directory of a replica; empty if it is none or that is not known yet."""
        return self.directories[self.replicas.index(broker_id)] if broker_id in self.replicas else ""

    @property
    def is_reassigned(self) -> bool:
        """Whether its replicas are being moved."""
        return bool(self.adding or self.removing)


class TopicImage(msgspec.Struct, kw_only=True, array_like=True):
    """One topic; `partitions[i]` has index i."""

    name: str
    topic_id: bytes
    partitions: list[PartitionImage]


def collision_name(name: str) -> str:
    """Topics whose names differ only in '.' and '_' share metric names, so Kafka keeps only one of them."""
    return name.replace(".", "_")


class MetadataImage:
    """Brokers, topics and configs.

    `brokers` has each registration as later records changed it.

    `metadata_offset` is the end of what was replayed: the offset of the next record. `version` grows with
    each replay, for whoever caches what was derived from the image.
    """

    def __init__(self) -> None:
        self.metadata_offset = 0
        self.version = 0
        self.brokers: dict[int, BrokerRegistered] = {}
        self.topics_by_name: dict[str, TopicImage] = {}
        self.topics_by_id: dict[bytes, TopicImage] = {}
        self.names_by_collision: dict[str, str] = {}
        self.configs: dict[tuple[int, str], dict[str, str]] = {}
        self.features: dict[str, int] = {}
        self.next_producer_id = 0
        self.partition_count = 0
        self.logs_by_directory: Counter[str] = Counter()

    def replay(self, records: Iterable[Record], end_offset: int) -> None:
        """Take in the records of whole batches, up to (not including) `end_offset`."""
        assert end_offset >= self.metadata_offset, "a batch is replayed once"
        for record in records:
            self._replay_one(record)
        self.metadata_offset = end_offset
        self.version += 1

    def become(self, other: "MetadataImage") -> None:
        """Be what `other` is, which a snapshot said; nobody else has that one."""
        assert other.metadata_offset >= self.metadata_offset, "an image never goes back"
        version = self.version
        vars(self).update(vars(other))
        self.version = version + 1

    def partition(self, topic_id: bytes, partition: int) -> PartitionImage | None:
        """The partition, if it exists."""
        topic = self.topics_by_id.get(topic_id)
        if topic is None or not 0 <= partition < len(topic.partitions):
            return None
        return topic.partitions[partition]

    def topic_configs(self, name: str) -> dict[str, str]:
        """The topic's own configs, without defaults."""
        return self.configs.get((RESOURCE_TOPIC, name), {})

    def group_config(self, group_id: str, key: str) -> int | None:
        """What was set for one group, without defaults."""
        text = self.configs.get((RESOURCE_GROUP, group_id), {}).get(key)
        return None if text is None else int(text)

    def is_active(self, broker_id: int) -> bool:
        """Whether the broker may lead and be in sync: registered, not fenced, not shutting down."""
        broker = self.brokers.get(broker_id)
        return broker is not None and not broker.fenced and not broker.in_controlled_shutdown

    def serves_from(self, broker_id: int, directory: str) -> bool:
        """Whether a registered broker serves what lies in this log directory; one not known yet counts."""
        broker = self.brokers.get(broker_id)
        return broker is not None and (not directory or not broker.log_dirs or directory in broker.log_dirs)

    def walk(self) -> Iterator[tuple[TopicImage, PartitionImage]]:
        """Every partition with its topic."""
        for topic in self.topics_by_name.values():
            for partition in topic.partitions:
                yield topic, partition

    def enter_topic(self, topic: TopicImage) -> None:
        """Take in a new topic with the partitions it has."""
        assert topic.name not in self.topics_by_name
        assert topic.topic_id not in self.topics_by_id
        self.topics_by_name[topic.name] = topic
        self.topics_by_id[topic.topic_id] = topic
        self.names_by_collision[collision_name(topic.name)] = topic.name
        self.partition_count += len(topic.partitions)
        for partition in topic.partitions:
            self.logs_by_directory.update(partition.directories)

    def _replay_one(self, record: Record) -> None:
        match record:
            case PartitionChange():
                self._partition_change(record)
            case PartitionRecord():
                self._partition(record)
            case TopicRecord():
                self.enter_topic(TopicImage(name=record.name, topic_id=record.topic_id, partitions=[]))
            case ConfigRecord():
                self._config(record)
            case TopicRemoved():
                self._topic_removed(record)
            case ProducerIdsBlock():
                assert record.next_producer_id >= self.next_producer_id, "an id is never given away twice"
                self.next_producer_id = record.next_producer_id
            case BrokerRegistered():
                self._broker(record)
            case BrokerChange():
                self._broker_change(record)
            case BrokerUnregistered():
                assert self.brokers[record.broker_id].broker_epoch == record.broker_epoch
                del self.brokers[record.broker_id]
            case FeatureLevel():
                self.features[record.name] = record.level

    def _broker(self, record: BrokerRegistered) -> None:
        known = self.brokers.get(record.broker_id)
        assert known is None or record.broker_epoch >= known.broker_epoch, "broker epochs never go back"
        self.brokers[record.broker_id] = record

    def _broker_change(self, record: BrokerChange) -> None:
        known = self.brokers[record.broker_id]
        assert known.broker_epoch == record.broker_epoch, "a change is of the broker that is registered"
        shutting_down = record.in_controlled_shutdown
        self.brokers[record.broker_id] = msgspec.structs.replace(
            known,
            fenced=known.fenced if record.fenced is None else record.fenced,
            in_controlled_shutdown=known.in_controlled_shutdown if shutting_down is None else shutting_down,
            log_dirs=known.log_dirs if record.log_dirs is None else record.log_dirs,
        )

    def _partition(self, record: PartitionRecord) -> None:
        partitions = self.topics_by_id[record.topic_id].partitions
        assert record.partition == len(partitions), "partitions come in order of their index"
        partition = PartitionImage(
            partition=record.partition,
            replicas=record.replicas,
            isr=record.isr,
            leader=record.leader,
            leader_epoch=record.leader_epoch,
            partition_epoch=record.partition_epoch,
            directories=record.directories or ("",) * len(record.replicas),
            adding=record.adding,
            removing=record.removing,
            lineage=record.lineage,
        )
        _check(partition)
        self.partition_count += 1
        self.logs_by_directory.update(partition.directories)
        partitions.append(partition)

    def _partition_change(self, record: PartitionChange) -> None:
        partitions = self.topics_by_id[record.topic_id].partitions
        old = partitions[record.partition]
        new = changed(old, record)
        assert new.leader_epoch >= old.leader_epoch, "leader epochs never go back"
        _check(new)
        if new.directories != old.directories:
            self.logs_by_directory.subtract(old.directories)
            self.logs_by_directory.update(new.directories)
        partitions[record.partition] = new

    def _config(self, record: ConfigRecord) -> None:
        resource = (record.resource_type, record.name)
        if record.value is not None:
            self.configs.setdefault(resource, {})[record.key] = record.value
        elif resource in self.configs:
            self.configs[resource].pop(record.key, None)

    def _topic_removed(self, record: TopicRemoved) -> None:
        topic = self.topics_by_id.pop(record.topic_id)
        del self.topics_by_name[topic.name]
        del self.names_by_collision[collision_name(topic.name)]
        self.configs.pop((RESOURCE_TOPIC, topic.name), None)
        self.partition_count -= len(topic.partitions)
        for partition in topic.partitions:
            self.logs_by_directory.subtract(partition.directories)


def changed(old: PartitionImage, record: PartitionChange) -> PartitionImage:
    """The partition once the change is replayed."""
    directories = old.directories if record.directories is None else record.directories
    if record.directory is not None:
        directories = (record.directory, *directories[1:])
    return PartitionImage(
        partition=old.partition,
        replicas=old.replicas if record.replicas is None else record.replicas,
        isr=old.isr if record.isr is None else record.isr,
        leader=old.leader if record.leader is None else record.leader,
        leader_epoch=old.leader_epoch if record.leader_epoch is None else record.leader_epoch,
        partition_epoch=old.partition_epoch + 1,
        directories=directories,
        adding=old.adding if record.adding is None else record.adding,
        removing=old.removing if record.removing is None else record.removing,
        lineage=old.lineage if record.lineage is None else record.lineage,
    )


def _check(partition: PartitionImage) -> None:
    """What decisions must never get wrong, on every replica of the image alike."""
    assert len(partition.directories) == len(partition.replicas), "a directory a replica"
    assert set(partition.isr).issubset(partition.replicas), "who is in sync has a replica"
    assert partition.leader == NO_LEADER or partition.leader in partition.isr, "a leader is in sync"
