"""Deleted records, epochs, producers and sizes of logs: the same questions for any broker."""

from typing import Any, cast

from tailrace.core.errors import NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION
from tailrace.core.protocol.apis import (
    ALTER_REPLICA_LOG_DIRS,
    CREATE_TOPICS,
    DELETE_RECORDS,
    DESCRIBE_LOG_DIRS,
    DESCRIBE_PRODUCERS,
    LIST_OFFSETS,
    OFFSET_FOR_LEADER_EPOCH,
    PRODUCE,
)
from tailrace.core.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsRequestDir,
    AlterReplicaLogDirsRequestTopic,
)
from tailrace.core.protocol.messages.create_topics import (
    CreateTopicsRequest,
    CreateTopicsRequestConfig,
    CreateTopicsRequestTopic,
)
from tailrace.core.protocol.messages.delete_records import (
    DeleteRecordsRequest,
    DeleteRecordsRequestPartition,
    DeleteRecordsRequestTopic,
)
from tailrace.core.protocol.messages.describe_log_dirs import (
    DescribeLogDirsRequest,
    DescribeLogDirsRequestTopic,
)
from tailrace.core.protocol.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersRequestTopic,
)
from tailrace.core.protocol.messages.list_offsets import (
    ListOffsetsRequest,
    ListOffsetsRequestPartition,
    ListOffsetsRequestTopic,
)
from tailrace.core.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochRequestPartition,
    OffsetForLeaderEpochRequestTopic,
)
from tests.support.batches import PAST_MS, batch, by_producer
from tests.support.data_cases import PARTITIONS, Cluster, produce
from tests.support.raw_client import Outcome
from tests.support.read_cases import Reading
from tests.support.waiting import wait_until

POLICIES = {"compacted": "compact", "both": "compact,delete", "neither": ""}
NOT_YET = (UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER)


def _delete(cluster: Cluster, what: str, version: int, asked: dict[str, list[tuple[int, int]]]) -> Outcome:
    topics = [
        DeleteRecordsRequestTopic(name, [DeleteRecordsRequestPartition(*part) for part in parts])
        for name, parts in asked.items()
    ]
    outcome = cluster.client.ask(DELETE_RECORDS, version, DeleteRecordsRequest(topics, 10_000))
    cluster.keep(f"DeleteRecords v{version}: {what}", outcome)
    return outcome


def deletions(cluster: Cluster) -> None:
    """Offsets in and out of range, and what is left to read afterwards."""
    reading = Reading(cluster)
    for offset in (-2, 13, 100, 0, 4, 2, 5):
        _delete(cluster, f"up to {offset}", 2, {"data": [(reading.full, offset)]})
        _offsets(cluster, f"after a deletion up to {offset}", reading.full)
    for offset in (0, 3, 4, 5, 11, 12):
        reading.fetch(f"after a deletion, at {offset}", 12, reading.topic(12, reading.part(offset=offset)))
    for version in range(3):
        _delete(cluster, "all", version, {"data": [(reading.full, -1)]})
    reading.fetch("all deleted, at 12", 12, reading.topic(12, reading.part(offset=12)))
    _offsets(cluster, "all deleted", reading.full)
    cluster.keep(
        "Produce v9: all deleted", cluster.client.ask(PRODUCE, 9, produce("data", reading.full, batch()))
    )
    _delete(cluster, "of nothing", 2, {"data": [(reading.empty, -1)]})
    _delete(cluster, "of nothing, up to 1", 2, {"data": [(reading.empty, 1)]})
    _delete(cluster, "nothing", 2, {})
    _delete(cluster, "no partition", 2, {"data": []})
    _delete(cluster, "unknown", 2, {"nobody": [(0, 0)], "": [(0, 0)], "data": [(PARTITIONS, 0), (-1, 0)]})


def _offsets(cluster: Cluster, what: str, partition: int) -> None:
    """The ends, and by time."""
    for time in (-2, -1, -3, -4, 0, PAST_MS + 1, PAST_MS + 2):
        topics = [ListOffsetsRequestTopic("data", [ListOffsetsRequestPartition(partition, -1, time)])]
        outcome = cluster.client.ask(LIST_OFFSETS, 11, ListOffsetsRequest(-1, 0, topics))
        cluster.keep(f"ListOffsets {what}: {time - PAST_MS if time > 0 else time}", outcome)


def policies(cluster: Cluster) -> None:
    """Records of a topic that is only compacted are not deleted."""
    topics = [
        CreateTopicsRequestTopic(name, 1, 1, configs=[CreateTopicsRequestConfig("cleanup.policy", policy)])
        for name, policy in POLICIES.items()
    ]
    cluster.client.ask(CREATE_TOPICS, 7, CreateTopicsRequest(topics, 20_000))
    asked = [DeleteRecordsRequestTopic(name, [DeleteRecordsRequestPartition(0, 0)]) for name in POLICIES]
    message = DeleteRecordsRequest(asked, 10_000)

    def is_led() -> bool:
        answer = str(cluster.client.ask(DELETE_RECORDS, 2, message))
        return not any(f"'error_code': {code}" in answer for code in NOT_YET)

    wait_until(is_led, "leaders of the topics")
    for name in POLICIES:
        _delete(cluster, name, 2, {name: [(0, 0)]})


def epochs(cluster: Cluster) -> None:
    """Of the first epoch, the one before, and those to come."""
    reading = Reading(cluster)

    def ask(what: str, version: int, name: str, *asked: tuple[int, int, int]) -> None:
        parts = [OffsetForLeaderEpochRequestPartition(*one) for one in asked]
        message = OffsetForLeaderEpochRequest(-1, [OffsetForLeaderEpochRequestTopic(name, parts)])
        outcome = cluster.client.ask(OFFSET_FOR_LEADER_EPOCH, version, message)
        cluster.keep(f"OffsetForLeaderEpoch v{version}: {what}", outcome)

    for version in (2, 3, 4):
        ask("both", version, "data", (reading.full, 0, 0), (reading.empty, 0, 0))
    for epoch in (-2, -1, 1, 7):
        ask(f"epoch {epoch}", 4, "data", (reading.full, -1, epoch), (reading.empty, -1, epoch))
        ask(f"current epoch {epoch}", 4, "data", (reading.full, epoch, 0))
    ask("unknown", 4, "data", (PARTITIONS, 0, 0), (-1, 0, 0))
    ask("unknown topic", 4, "nobody", (0, 0, 0))
    ask("nothing", 4, "data")
    _delete(cluster, "before epochs", 2, {"data": [(reading.full, 5)]})
    ask("deleted up to 5", 4, "data", (reading.full, 0, 0))


def described(cluster: Cluster) -> None:
    """Producers that are remembered, and bytes of logs."""
    reading, known = Reading(cluster), cluster.partition()
    sent = [(900, 0, 0, 1), (900, 0, 1, 3), (900, 1, 0, 2), (901, 5, 0, 1)]
    for producer, epoch, sequence, count in sent:
        cluster.client.ask(PRODUCE, 9, produce("data", known, by_producer(producer, epoch, sequence, count)))

    def producers(what: str, name: str, *parts: int) -> None:
        message = DescribeProducersRequest([DescribeProducersRequestTopic(name, list(parts))])
        outcome = cluster.client.ask(DESCRIBE_PRODUCERS, 0, message)
        cluster.keep(f"DescribeProducers: {what}", _sorted_producers(outcome))

    producers("some", "data", known, reading.full, reading.empty)
    producers("unknown", "data", PARTITIONS, -1)
    producers("unknown topic", "nobody", 0)
    producers("no name", "", 0)
    producers("bad name", "a b", 0)
    producers("nothing", "data")
    _delete(cluster, "of known producers", 2, {"data": [(known, -1)]})
    producers("all deleted", "data", known)
    for version in range(1, 6):
        _log_dirs(cluster, "some", version, {"data": [reading.full, reading.empty, PARTITIONS]})
    _log_dirs(cluster, "nothing", 5, {})
    _log_dirs(cluster, "unknown", 5, {"nobody": [0], "data": []})
    _moves(cluster, reading.full)


def _moves(cluster: Cluster, known: int) -> None:
    """AlterReplicaLogDirs where there is one directory."""
    outcome = cluster.client.ask(DESCRIBE_LOG_DIRS, 5, DescribeLogDirsRequest([]))
    assert isinstance(outcome, dict)
    own = str(_dicts(outcome["results"])[0]["log_dir"])

    def ask(what: str, version: int, path: str, name: str, *parts: int) -> None:
        topics = [AlterReplicaLogDirsRequestTopic(name, list(parts))]
        message = AlterReplicaLogDirsRequest([AlterReplicaLogDirsRequestDir(path, topics)])
        answered = cluster.client.ask(ALTER_REPLICA_LOG_DIRS, version, message)
        if isinstance(answered, dict):
            for topic in _dicts(answered["results"]):
                topic["partitions"] = sorted(_dicts(topic["partitions"]), key=repr)
        cluster.keep(f"AlterReplicaLogDirs v{version}: {what}", answered)

    for version in (1, 2):
        ask("where it is", version, own, "data", known)
        ask("no such directory", version, "/nowhere", "data", known, PARTITIONS)
        ask("no path", version, "data", "data", known)
    ask("unknown partitions", 2, own, "data", PARTITIONS, -1, known)
    ask("unknown topic", 2, own, "nobody", 0)
    ask("unknown topic and directory", 2, "/nowhere", "nobody", 0)
    ask("a long name", 2, own, "n" * 240, 0)
    ask("nothing", 2, own, "data")
    cluster.keep(
        "AlterReplicaLogDirs: no directories",
        cluster.client.ask(ALTER_REPLICA_LOG_DIRS, 2, AlterReplicaLogDirsRequest([])),
    )


def _log_dirs(cluster: Cluster, what: str, version: int, asked: dict[str, list[int]]) -> None:
    topics = [DescribeLogDirsRequestTopic(name, parts) for name, parts in asked.items()]
    outcome = cluster.client.ask(DESCRIBE_LOG_DIRS, version, DescribeLogDirsRequest(topics))
    assert isinstance(outcome, dict)
    for result in _dicts(outcome["results"]):
        assert result["log_dir"].startswith("/")
        assert version < 4 or result["total_bytes"] > result["usable_bytes"] > 0
        result |= dict.fromkeys(("log_dir", "total_bytes", "usable_bytes"), "some")
        for topic in _dicts(result["topics"]):
            topic["partitions"] = sorted(_dicts(topic["partitions"]), key=repr)
    outcome["size"] = "depends on the name of the directory"
    cluster.keep(f"DescribeLogDirs v{version}: {what}", outcome)


def _sorted_producers(outcome: Outcome) -> Outcome:
    """In Kafka they come in the order of a hash."""
    assert isinstance(outcome, dict)
    for topic in _dicts(outcome["topics"]):
        for part in _dicts(topic["partitions"]):
            part["active_producers"] = sorted(_dicts(part["active_producers"]), key=repr)
    return outcome


def _dicts(parts: object) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", parts)
