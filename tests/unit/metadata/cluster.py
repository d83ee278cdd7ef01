"""A small cluster as an image: brokers 0, 1 and 2 with a log directory each, topics placed by hand."""

from collections.abc import Sequence

from tailrace.core.metadata.brokers import Registration, start_all
from tailrace.core.metadata.directories import fill_directories
from tailrace.core.metadata.image import MetadataImage, PartitionImage
from tailrace.core.metadata.leadership import LeaderRules
from tailrace.core.metadata.records import Listener, Record, TopicRecord
from tailrace.core.metadata.topics import partition_records

RULES = LeaderRules()
UNCLEAN_RULES = LeaderRules(unclean_election=True)
TOPIC_ID = b"t" * 16


def registration(broker_id: int, incarnation: int = 1, log_dirs: tuple[str, ...] = ()) -> Registration:
    """Of one start of a broker."""
    return Registration(
        broker_id=broker_id,
        incarnation_id=(incarnation * 100 + broker_id).to_bytes(16, "big"),
        listeners=(Listener(name="PLAINTEXT", host="localhost", port=9092 + broker_id),),
        log_dirs=log_dirs or (f"dir-{broker_id}",),
    )


def cluster(*placed: Sequence[int], brokers: int = 3) -> MetadataImage:
    """With one topic, "t", of partitions with these replicas."""
    image = MetadataImage()
    replay(image, start_all(image, [registration(broker) for broker in range(brokers)], RULES)[0])
    replay(image, topic(image, *placed))
    return image


def topic(image: MetadataImage, *placed: Sequence[int]) -> list[Record]:
    """The records of "t", its replicas in the directories of their brokers."""
    records = partition_records(image, TOPIC_ID, [tuple(replicas) for replicas in placed], 0)
    return fill_directories(image, [TopicRecord(name="t", topic_id=TOPIC_ID), *records])


def replay(image: MetadataImage, records: Sequence[Record]) -> None:
    """Commit them."""
    image.replay(records, image.metadata_offset + len(records))


def part(image: MetadataImage, index: int = 0) -> PartitionImage:
    """A partition of "t"."""
    return image.topics_by_name["t"].partitions[index]


def seen(image: MetadataImage, index: int = 0) -> tuple[int, tuple[int, ...], int, int]:
    """Its leader, ISR, leader epoch and partition epoch."""
    partition = part(image, index)
    return partition.leader, partition.isr, partition.leader_epoch, partition.partition_epoch
