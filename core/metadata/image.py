"""The cluster's state at one offset of the metadata log.

An image changes only by replaying committed records, a whole batch at a time; what is read from it between
two replays is consistent. Partitions are frozen: whoever keeps one sees it as it was.
"""

from collections import Counter
from collections.abc import Iterable

import msgspec

from tailrace.core.metadata.records import (
    RESOURCE_GROUP,
    RESOURCE_TOPIC,
    BrokerRegistered,
    ConfigRecord,
    FeatureLevel,
    PartitionChange,
    PartitionRecord,
    ProducerIdsBlock,
    Record,
    TopicRecord,
    TopicRemoved,
)


class PartitionImage(msgspec.Struct, kw_only=True, frozen=True):
    """One partition as committed."""

    partition: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    leader: int
    leader_epoch: int
    partition_epoch: int
    directory: str = ""  # id of the log directory that holds its log; empty: not known yet


class TopicImage(msgspec.Struct, kw_only=True):
    """One topic; `partitions[i]` has index i."""

    name: str
    topic_id: bytes
    partitions: list[PartitionImage]


def collision_name(name: str) -> str:
    """Topics whose names differ only in '.' and '_' share metric names, so Kafka keeps only one of them."""
    return name.replace(".", "_")


class MetadataImage:
    """Brokers, topics and configs.

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

    def _replay_one(self, record: Record) -> None:
        match record:
            case PartitionChange():
                self._partition_change(record)
            case PartitionRecord():
                self._partition(record)
            case TopicRecord():
                self._topic(record)
            case ConfigRecord():
                self._config(record)
            case TopicRemoved():
                self._topic_removed(record)
            case ProducerIdsBlock():
                assert record.next_producer_id >= self.next_producer_id, "an id is never given away twice"
                self.next_producer_id = record.next_producer_id
            case BrokerRegistered():
                self.brokers[record.broker_id] = record
            case FeatureLevel():
                self.features[record.name] = record.level

    def _topic(self, record: TopicRecord) -> None:
        topic = TopicImage(name=record.name, topic_id=record.topic_id, partitions=[])
        assert record.name not in self.topics_by_name
        assert record.topic_id not in self.topics_by_id
        self.topics_by_name[record.name] = topic
        self.topics_by_id[record.topic_id] = topic
        self.names_by_collision[collision_name(record.name)] = record.name

    def _partition(self, record: PartitionRecord) -> None:
        partitions = self.topics_by_id[record.topic_id].partitions
        assert record.partition == len(partitions), "partitions come in order of their index"
        self.partition_count += 1
        directory = record.directories[0] if record.directories else ""
        self.logs_by_directory[directory] += 1
        partitions.append(
            PartitionImage(
                partition=record.partition,
                replicas=record.replicas,
                isr=record.isr,
                leader=record.leader,
                leader_epoch=record.leader_epoch,
                partition_epoch=record.partition_epoch,
                directory=directory,
            )
        )

    def _partition_change(self, record: PartitionChange) -> None:
        partitions = self.topics_by_id[record.topic_id].partitions
        old = partitions[record.partition]
        leader_epoch = old.leader_epoch if record.leader_epoch is None else record.leader_epoch
        assert leader_epoch >= old.leader_epoch, "leader epochs never go back"
        directory = old.directory if record.directory is None else record.directory
        if directory != old.directory:
            self.logs_by_directory[old.directory] -= 1
            self.logs_by_directory[directory] += 1
        partitions[record.partition] = PartitionImage(
            partition=old.partition,
            replicas=old.replicas,
            isr=old.isr if record.isr is None else record.isr,
            leader=old.leader if record.leader is None else record.leader,
            leader_epoch=leader_epoch,
            partition_epoch=old.partition_epoch + 1,
            directory=directory,
        )

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
        self.logs_by_directory.subtract(partition.directory for partition in topic.partitions)
