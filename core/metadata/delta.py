"""What changed in an image: for whoever follows the log and must not look at everything each time.

A delta is asked for before the records are replayed, or of two images when a snapshot took the place of the
log. It has the old of what changed; the new is in the image.
"""

from collections.abc import Iterable

import msgspec

from tailrace.core.metadata.image import MetadataImage, PartitionImage
from tailrace.core.metadata.leadership import Key
from tailrace.core.metadata.records import (
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


class MetadataDelta(msgspec.Struct, kw_only=True):
    """What is no longer as it was. `partitions` has each as it was, None for a new one; those of topics that
    are gone are not among them.
    """

    topics_added: set[bytes] = msgspec.field(default_factory=set[bytes])
    topics_removed: dict[bytes, str] = msgspec.field(default_factory=dict[bytes, str])
    partitions: dict[Key, PartitionImage | None] = msgspec.field(
        default_factory=dict[Key, PartitionImage | None]
    )
    brokers: set[int] = msgspec.field(default_factory=set[int])
    configs: set[tuple[int, str]] = msgspec.field(default_factory=set[tuple[int, str]])

    def note(self, image: MetadataImage, records: Iterable[Record]) -> None:
        """Take in records that `image` is about to replay."""
        for record in records:
            match record:
                case PartitionChange():
                    key = (record.topic_id, record.partition)
                    self.partitions.setdefault(key, image.partition(*key))
                case PartitionRecord():
                    self.partitions.setdefault((record.topic_id, record.partition), None)
                case TopicRecord():
                    self.topics_added.add(record.topic_id)
                case TopicRemoved():
                    self._remove(image, record.topic_id)
                case ConfigRecord():
                    self.configs.add((record.resource_type, record.name))
                case BrokerRegistered() | BrokerChange() | BrokerUnregistered():
                    self.brokers.add(record.broker_id)
                case ProducerIdsBlock() | FeatureLevel():
                    pass  # nobody who follows the log acts on them

    def _remove(self, image: MetadataImage, topic_id: bytes) -> None:
        topic = image.topics_by_id.get(topic_id)
        if topic is not None:
            self.topics_removed[topic_id] = topic.name
        self.topics_added.discard(topic_id)
        for key in [key for key in self.partitions if key[0] == topic_id]:
            del self.partitions[key]


def delta_between(old: MetadataImage, new: MetadataImage) -> MetadataDelta:
    """What is different in `new`."""
    delta = MetadataDelta(
        topics_added=new.topics_by_id.keys() - old.topics_by_id.keys(),
        topics_removed={
            topic_id: topic.name
            for topic_id, topic in old.topics_by_id.items()
            if topic_id not in new.topics_by_id
        },
        brokers=_different(old.brokers, new.brokers),
        configs={
            resource
            for resource in old.configs.keys() | new.configs.keys()
            if old.configs.get(resource, {}) != new.configs.get(resource, {})
        },
    )
    for topic, partition in new.walk():
        before = old.partition(topic.topic_id, partition.partition)
        if before != partition:
            delta.partitions[topic.topic_id, partition.partition] = before
    return delta


def _different(old: dict[int, BrokerRegistered], new: dict[int, BrokerRegistered]) -> set[int]:
    return {broker_id for broker_id in old.keys() | new.keys() if old.get(broker_id) != new.get(broker_id)}
