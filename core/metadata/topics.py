"""CreateTopics and DeleteTopics: request + image in, records + results out.

The checks, their order, codes and sentences are those of Kafka's controller, so that tools which match on
them work. Differences: the sum of replicas is bounded by `partitions_free`, the rows of the host's state
table.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from tailrace.core import errors
from tailrace.core.config import ConfigError, validate_topic_configs
from tailrace.core.errors import KafkaError
from tailrace.core.metadata.image import MetadataImage, collision_name
from tailrace.core.metadata.placement import place_replicas
from tailrace.core.metadata.records import (
    RESOURCE_TOPIC,
    ConfigRecord,
    PartitionRecord,
    Record,
    TopicRecord,
    TopicRemoved,
)
from tailrace.core.metadata.requests import NO_TOPIC_ID, NewTopic, TopicResult, TopicToDelete

METADATA_TOPIC = "__cluster_metadata"
OFFSETS_TOPIC = "__consumer_offsets"
INTERNAL_TOPICS = frozenset((OFFSETS_TOPIC, "__transaction_state", "__share_group_state"))
NAME_LENGTH_MAX = 249
_LEGAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


class TopicDefaults(msgspec.Struct, kw_only=True, frozen=True):
    """What a request that says -1 gets, and how much there is to give."""

    num_partitions: int
    replication_factor: int
    partitions_free: int  # rows for replicas
    delete_enabled: bool = True


class Decision(msgspec.Struct, kw_only=True, frozen=True):
    """Records to commit as one batch and the answer to give once they are committed, one result an asked
    topic.
    """

    records: list[Record]
    results: list[TopicResult]


def check_topic_name(name: str) -> None:
    """Raise INVALID_TOPIC_EXCEPTION with Kafka's sentence for a name that no topic may have."""
    if not name:
        why = "the empty string is not allowed"
    elif name in (".", ".."):
        why = f"'{name}' is not allowed"
    elif len(name) > NAME_LENGTH_MAX:
        why = f"the length of '{name}' is longer than the max allowed length {NAME_LENGTH_MAX}"
    elif not _LEGAL.issuperset(name):
        why = (
            f"'{name}' contains one or more characters other than "
            "ASCII alphanumerics, '.', '_' and '-'"
        )  # fmt: skip
    else:
        return
    raise KafkaError(errors.INVALID_TOPIC_EXCEPTION, f"Topic name is invalid: {why}")


def create_topics(
    image: MetadataImage,
    topics: Sequence[NewTopic],
    defaults: TopicDefaults,
    new_topic_id: Callable[[], bytes],
) -> Decision:
    """Decide about every topic by itself: one that is refused does not hinder the others."""
    asked = Counter(topic.name for topic in topics)
    taken: dict[str, str] = {}
    free = defaults.partitions_free
    records: list[Record] = []
    results: list[TopicResult] = []
    for topic in topics:
        try:
            _check_new_name(image, topic.name, asked[topic.name], taken)
            placed = _placement(image, topic, defaults)
            check_room(_replica_count(placed), free)
            configs = _check_configs(topic.configs)
        except KafkaError as error:
            results.append(TopicResult(name=topic.name, error_code=error.code, error_message=error.message))
            continue
        free -= _replica_count(placed)
        taken[collision_name(topic.name)] = topic.name
        topic_id = new_topic_id()
        records += _topic_records(image, topic.name, topic_id, placed, configs)
        results.append(
            TopicResult(
                name=topic.name,
                topic_id=topic_id,
                num_partitions=len(placed),
                replication_factor=len(placed[0]),
            )
        )
    return Decision(records=records, results=results)


def delete_topics(image: MetadataImage, topics: Sequence[TopicToDelete], defaults: TopicDefaults) -> Decision:
    """Topics by name or by id; asking twice for the same one is refused, as in Kafka."""
    names = Counter(
        topic.name for topic in topics if topic.name is not None and topic.topic_id == NO_TOPIC_ID
    )
    ids = Counter(topic.topic_id for topic in topics if topic.name is None and topic.topic_id != NO_TOPIC_ID)
    named = {topic.topic_id for name in names if (topic := image.topics_by_name.get(name)) is not None}
    by_name_and_id = named & ids.keys()
    records: list[Record] = []
    results: list[TopicResult] = []
    for asked in topics:
        try:
            if not defaults.delete_enabled:
                raise KafkaError(errors.TOPIC_DELETION_DISABLED, "Topic deletion is disabled.")
            name, topic_id = _find_topic(image, asked, names, ids)
        except KafkaError as error:
            results.append(
                TopicResult(
                    name=asked.name,
                    topic_id=asked.topic_id,
                    error_code=error.code,
                    error_message=error.message,
                )
            )
            continue
        if topic_id in by_name_and_id:
            results.append(
                TopicResult(
                    name=name,
                    topic_id=topic_id,
                    error_code=errors.INVALID_REQUEST,
                    error_message="The provided topic name maps to an ID that was already supplied.",
                )
            )
            continue
        records.append(TopicRemoved(topic_id=topic_id))
        results.append(TopicResult(name=name, topic_id=topic_id))
    return Decision(records=records, results=results)


def _check_new_name(image: MetadataImage, name: str, times_asked: int, taken: dict[str, str]) -> None:
    if times_asked > 1:
        raise KafkaError(errors.INVALID_REQUEST, "Duplicate topic name.")
    if name == METADATA_TOPIC:
        raise KafkaError(
            errors.INVALID_REQUEST, f"Creation of internal topic {METADATA_TOPIC} is prohibited."
        )
    check_topic_name(name)
    if name in image.topics_by_name:
        raise KafkaError(errors.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
    collision = collision_name(name)
    existing = image.names_by_collision.get(collision) or taken.get(collision)
    if existing is not None:
        raise KafkaError(
            errors.INVALID_TOPIC_EXCEPTION, f"Topic '{name}' collides with existing topic: {existing}"
        )


def _placement(image: MetadataImage, topic: NewTopic, defaults: TopicDefaults) -> list[tuple[int, ...]]:
    if topic.assignments:
        return _manual_placement(image, topic)
    if topic.replication_factor < -1 or topic.replication_factor == 0:
        raise KafkaError(
            errors.INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        )
    if topic.num_partitions < -1 or topic.num_partitions == 0:
        raise KafkaError(
            errors.INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value."
        )
    partition_count = defaults.num_partitions if topic.num_partitions == -1 else topic.num_partitions
    replication_factor = (
        defaults.replication_factor if topic.replication_factor == -1 else topic.replication_factor
    )
    try:
        placed = place(image, partition_count, replication_factor, defaults.partitions_free)
    except KafkaError as error:
        if error.code == errors.INVALID_REPLICATION_FACTOR:
            raise _unreachable(replication_factor, error.message) from error
        raise
    for replicas in placed:
        if not in_sync_of(image, replicas):
            raise all_inactive(replication_factor)
    return placed


def place(
    image: MetadataImage, partition_count: int, replication_factor: int, free: int
) -> list[tuple[int, ...]]:
    """The replicas of so many new partitions; INVALID_REPLICATION_FACTOR when there are too few brokers,
    POLICY_VIOLATION when they are more than are free.
    """
    brokers = list(image.brokers.values())
    if all(broker.fenced for broker in brokers):
        raise KafkaError(
            errors.INVALID_REPLICATION_FACTOR,
            "All brokers are currently fenced, or have all their log directories cordoned.",
        )
    if replication_factor > len(brokers):
        raise KafkaError(
            errors.INVALID_REPLICATION_FACTOR,
            f"The target replication factor of {replication_factor} cannot be reached because only "
            f"{len(brokers)} broker(s) are registered or some brokers have all their log directories "
            "cordoned.",
        )
    check_room(partition_count * replication_factor, free)  # before a list of 2^31 entries is made
    return place_replicas(brokers, partition_count, replication_factor, image.partition_count)


def in_sync_of(image: MetadataImage, replicas: Sequence[int]) -> tuple[int, ...]:
    """Who is in sync in a new partition: those that serve. The first of them leads."""
    return tuple(filter(image.is_active, replicas))


def _unreachable(replication_factor: int, why: str) -> KafkaError:
    return KafkaError(
        errors.INVALID_REPLICATION_FACTOR,
        f"Unable to replicate the partition {replication_factor} time(s): {why}",
    )


def all_inactive(replication_factor: int) -> KafkaError:
    """What a placement is refused with when none of a partition's brokers serves."""
    return _unreachable(replication_factor, "All brokers are currently fenced or in controlled shutdown.")


def _replica_count(placed: Iterable[Sequence[int]]) -> int:
    return sum(map(len, placed))


def _manual_placement(image: MetadataImage, topic: NewTopic) -> list[tuple[int, ...]]:
    if topic.replication_factor != -1:
        raise KafkaError(
            errors.INVALID_REQUEST,
            "A manual partition assignment was specified, but replication factor was not set to -1.",
        )
    if topic.num_partitions != -1:
        raise KafkaError(
            errors.INVALID_REQUEST,
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        )
    placed: dict[int, tuple[int, ...]] = {}
    for partition, replicas in topic.assignments:
        if partition in placed:
            raise bad_assignment(f"Found multiple manual partition assignments for partition {partition}")
        check_replicas(image, replicas)
        placed[partition] = tuple(replicas)
        check_placed(image, partition, replicas, len(next(iter(placed.values()))))
    if sorted(placed) != list(range(len(placed))):
        raise bad_assignment("partitions should be a consecutive 0-based integer sequence")
    return [placed[partition] for partition in range(len(placed))]


def check_room(partition_count: int, free: int) -> None:
    """Raise POLICY_VIOLATION when so many partitions are too many for this host."""
    if partition_count > free:
        raise KafkaError(
            errors.POLICY_VIOLATION,
            f"Excessively large number of partitions per request: {partition_count} asked for, "
            f"this host has room for {free} more.",
        )


def check_replicas(image: MetadataImage, replicas: Sequence[int]) -> None:
    """Raise INVALID_REPLICA_ASSIGNMENT for brokers that cannot hold a partition together."""
    if not replicas:
        raise bad_assignment("The manual partition assignment includes an empty replica list.")
    last = None
    for broker_id in sorted(replicas):
        if broker_id not in image.brokers:
            raise bad_assignment(
                f"The manual partition assignment includes broker {broker_id}, but no such broker is "
                "registered."
            )
        if broker_id == last:
            raise bad_assignment(
                f"The manual partition assignment includes the broker {broker_id} more than once."
            )
        last = broker_id


def check_placed(
    image: MetadataImage, partition: int, replicas: Sequence[int], replication_factor: int
) -> None:
    """Raise INVALID_REPLICA_ASSIGNMENT for a new partition with other than so many replicas, or with none
    that serves.
    """
    if len(replicas) != replication_factor:
        raise bad_assignment(
            f"The manual partition assignment includes a partition with {len(replicas)} replica(s), but this "
            f"is not consistent with previous partitions, which have {replication_factor} replica(s)."
        )
    if not in_sync_of(image, replicas):
        raise bad_assignment(
            f"All brokers specified in the manual partition assignment for partition {partition} are fenced "
            "or in controlled shutdown."
        )


def bad_assignment(message: str) -> KafkaError:
    """What a placement by hand is refused with."""
    return KafkaError(errors.INVALID_REPLICA_ASSIGNMENT, message)


def _check_configs(configs: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    without_value = [key for key, value in configs if value is None]
    if without_value:
        raise KafkaError(
            errors.INVALID_CONFIG, f"Null value not supported for topic configs: {','.join(without_value)}"
        )
    given = {key: value for key, value in configs if value is not None}
    try:
        validate_topic_configs(given)
    except ConfigError as error:
        raise KafkaError(errors.INVALID_CONFIG, str(error)) from error
    return given


def _topic_records(
    image: MetadataImage,
    name: str,
    topic_id: bytes,
    placed: Sequence[tuple[int, ...]],
    configs: dict[str, str],
) -> list[Record]:
    records: list[Record] = [TopicRecord(name=name, topic_id=topic_id)]
    for key, value in configs.items():
        records.append(ConfigRecord(resource_type=RESOURCE_TOPIC, name=name, key=key, value=value))
    return records + partition_records(image, topic_id, placed, 0)


def partition_records(
    image: MetadataImage, topic_id: bytes, placed: Sequence[tuple[int, ...]], first: int
) -> list[Record]:
    """The records of new partitions with these replicas, from the index `first` on."""
    records: list[Record] = []
    for partition, replicas in enumerate(placed, first):
        isr = in_sync_of(image, replicas)
        records.append(
            PartitionRecord(
                topic_id=topic_id,
                partition=partition,
                replicas=replicas,
                isr=isr,
                leader=isr[0],
                leader_epoch=0,
                partition_epoch=0,
            )
        )
    return records


def _find_topic(
    image: MetadataImage, asked: TopicToDelete, names: Counter[str], ids: Counter[bytes]
) -> tuple[str, bytes]:
    by_id = asked.topic_id != NO_TOPIC_ID
    if by_id and asked.name is not None:
        raise KafkaError(errors.INVALID_REQUEST, "You may not specify both topic name and topic id.")
    if by_id:
        if ids[asked.topic_id] > 1:
            raise KafkaError(errors.INVALID_REQUEST, "Duplicate topic id.")
        topic = image.topics_by_id.get(asked.topic_id)
        if topic is None:
            raise KafkaError(errors.UNKNOWN_TOPIC_ID, "This server does not host this topic ID.")
        return topic.name, topic.topic_id
    if asked.name is None:
        raise KafkaError(errors.INVALID_REQUEST, "Neither topic name nor id were specified.")
    if names[asked.name] > 1:
        raise KafkaError(errors.INVALID_REQUEST, "Duplicate topic name.")
    topic = image.topics_by_name.get(asked.name)
    if topic is None:
        raise KafkaError(errors.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")
    return topic.name, topic.topic_id
