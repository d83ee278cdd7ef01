"""The same administrative requests for any broker, and their answers with what differs by nature left out."""

from collections.abc import Callable
from typing import Any, cast

import msgspec

from tailrace.clients.connection import Connection
from tailrace.core.errors import COORDINATOR_LOAD_IN_PROGRESS
from tailrace.core.protocol.apis import (
    API_VERSIONS,
    APIS,
    CREATE_TOPICS,
    DELETE_TOPICS,
    DESCRIBE_CLUSTER,
    DESCRIBE_TOPIC_PARTITIONS,
    INIT_PRODUCER_ID,
    METADATA,
)
from tailrace.core.protocol.messages.api_versions import ApiVersionsRequest
from tailrace.core.protocol.messages.create_topics import (
    CreateTopicsRequest,
    CreateTopicsRequestAssignment,
    CreateTopicsRequestConfig,
    CreateTopicsRequestTopic,
)
from tailrace.core.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsRequestTopic
from tailrace.core.protocol.messages.describe_cluster import DescribeClusterRequest
from tailrace.core.protocol.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsRequestCursor,
    DescribeTopicPartitionsRequestTopic,
)
from tailrace.core.protocol.messages.init_producer_id import InitProducerIdRequest
from tailrace.core.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from tailrace.core.protocol.schema import NO_ID
from tests.support.config_cases import (
    alterations,
    broker_alterations,
    descriptions,
    group_alterations,
    growing,
    replacements,
    settle,
)
from tests.support.replica_cases import replicas

UNKNOWN_ID = bytes(range(16))

Case = tuple[str, int, int, Any]  # what for, API, version, message


class Asker:
    """Asks one broker."""

    def __init__(self, address: str) -> None:
        self._address = address

    def ask(self, case: Case) -> Any:
        """The answer as plain data."""
        _, key, version, message = case
        with Connection(self._address, timeout_s=20) as connection:
            while True:
                connection.send(key, message, version=version)
                answer = connection.receive(APIS[key].response)
                if getattr(answer, "error_code", 0) != COORDINATOR_LOAD_IN_PROGRESS:
                    return plain(answer)

    def id_of(self, name: str) -> bytes:
        """A topic's id, NO_ID when it does not exist."""
        with Connection(self._address, timeout_s=20) as connection:
            connection.send(METADATA, MetadataRequest(topics=[topic(name)], allow_auto_topic_creation=False))
            return connection.receive(MetadataResponse).topics[0].topic_id


def plain(answer: Any) -> Any:
    """An answer as plain data, without addresses, ids and order where none is promised."""
    return _without_ids(msgspec.to_builtins(answer, builtin_types=(bytes,)))


def _without_ids(value: object) -> object:
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return {name: _without_id(name, part) for name, part in fields.items()}
    if isinstance(value, list):
        return sorted(map(_without_ids, cast("list[object]", value)), key=repr)
    if isinstance(value, bytes):
        return {NO_ID: "none", UNKNOWN_ID: "unknown"}.get(value, "some id")
    return value


def _without_id(name: str, value: object) -> object:
    """Kept is whether there is one; and the order of synonyms, which has a meaning."""
    if name == "synonyms":
        return value
    own = (name in ("port", "cluster_id", "documentation") and value) or (
        name == "producer_id" and value != -1
    )
    return "*" if own else _without_ids(value)


def topic(name: str | None = None, topic_id: bytes = NO_ID) -> MetadataRequestTopic:
    """A topic of a Metadata request."""
    return MetadataRequestTopic(topic_id=topic_id, name=name)


def new(name: str, partitions: int = 1, replicas: int = 1, **more: Any) -> CreateTopicsRequestTopic:
    """A topic of a CreateTopics request."""
    return CreateTopicsRequestTopic(name, partitions, replicas, **more)


def config(name: str, value: str | None) -> CreateTopicsRequestConfig:
    """A config of one."""
    return CreateTopicsRequestConfig(name, value)


def placed(partition: int, *brokers: int) -> CreateTopicsRequestAssignment:
    """A partition of one, placed by hand."""
    return CreateTopicsRequestAssignment(partition, list(brokers))


def creations() -> list[Case]:
    """CreateTopics: shapes, names, placements and configs, good and bad."""

    def ask(what: str, version: int, *topics: CreateTopicsRequestTopic, only: bool = False) -> Case:
        return what, CREATE_TOPICS, version, CreateTopicsRequest(list(topics), 10_000, only)

    return [
        ask("plain", 7, new("a.b", 3)),
        ask("again", 7, new("a.b", 3)),
        ask("collision", 7, new("a_b")),
        *[ask("by version", version, new(f"v{version}")) for version in range(2, 8)],
        ask("defaults", 7, new("defaults", -1, -1)),
        ask("only checked", 7, new("checked", 2), only=True),
        ask("only checked, exists", 7, new("a.b", 2), only=True),
        ask("duplicates", 7, new("twice"), new("twice"), new("once")),
        ask("bad names", 7, *map(new, ("", ".", "..", "a b", "x" * 250, "__cluster_metadata"))),
        ask("bad shapes", 7, new("p0", 0), new("p-2", -2), new("r0", 1, 0), new("r-2", 1, -2)),
        ask("too many replicas", 7, new("r2", 1, 2)),
        ask("placed", 7, new("placed", -1, -1, assignments=[placed(0, 1), placed(1, 1)])),
        ask("placed and counted", 7, new("counted", 2, -1, assignments=[placed(0, 1)])),
        ask("placed and replicated", 7, new("replicated", -1, 1, assignments=[placed(0, 1)])),
        ask("placed badly", 7,
            new("hole", -1, -1, assignments=[placed(0, 1), placed(2, 1)]),
            new("nobody", -1, -1, assignments=[placed(0, 99)]),
            new("nothing", -1, -1, assignments=[placed(0)]),
            new("same", -1, -1, assignments=[placed(0, 1, 1)])),
        ask("configured", 7, new("configured", configs=[
            config("cleanup.policy", "compact,delete"), config("retention.ms", " 1000 "),
            config("min.cleanable.dirty.ratio", "0.10"), config("preallocate", "TRUE")])),
        ask("configured badly", 7,
            new("unknown-config", configs=[config("no.such.config", "1")]),
            new("bad-value", configs=[config("retention.ms", "soon")]),
            new("out-of-bounds", configs=[config("min.cleanable.dirty.ratio", "2")]),
            new("null-config", configs=[config("retention.ms", None)])),
        ask("nothing", 7),
    ]  # fmt: skip


def metadata(id_of: Callable[[str], bytes]) -> list[Case]:
    """Metadata: every version, names and ids."""

    def ask(what: str, version: int, topics: Any, auto: bool = False, **more: Any) -> Case:
        return what, METADATA, version, MetadataRequest(topics, auto, **more)

    cases = [ask("all", version, None if version else [], auto=True) for version in range(14)]
    cases += [ask("none", version, [], auto=True) for version in range(1, 14)]
    cases += [ask("one, one absent", version, [topic("a.b"), topic("absent")]) for version in range(4, 14)]
    cases += [
        ask("operations", 8, [topic("a.b")], include_cluster_authorized_operations=True,
            include_topic_authorized_operations=True),
        ask("operations", 10, [topic("absent")], include_cluster_authorized_operations=True,
            include_topic_authorized_operations=True),
        ask("operations", 13, [topic("a.b"), topic("absent")], include_topic_authorized_operations=True),
        ask("operations by id", 13, [topic(None, UNKNOWN_ID)], include_topic_authorized_operations=True),
        ask("bad names", 12, [topic(""), topic("a b"), topic("x" * 250)], auto=True),
        ask("duplicates", 12, [topic("a.b"), topic("a.b")]),
        ask("id", 12, [topic(None, id_of("a.b"))]),
        ask("ids", 13, [topic(None, id_of("a.b")), topic(None, UNKNOWN_ID)]),
        ask("id and name", 13, [topic("v2", id_of("a.b"))]),
        ask("id, then name", 13, [topic(None, id_of("a.b")), topic("v2")]),
        ask("neither", 13, [topic(None)]),
        ask("id too early", 10, [topic("", id_of("a.b"))]),
        ask("id too early", 11, [topic(None, id_of("a.b"))]),
        ask("null name too early", 11, [topic(None)]),
        ask("internal, absent", 12, [topic("__consumer_offsets"), topic("__cluster_metadata")]),
    ]  # fmt: skip
    return cases


def others() -> list[Case]:
    """DescribeCluster, InitProducerId, ApiVersions."""
    cases: list[Case] = []
    for version in range(3):
        for operations in (False, True):
            cases.append(
                (
                    "cluster and operations" if operations else "cluster",
                    DESCRIBE_CLUSTER,
                    version,
                    DescribeClusterRequest(operations, 1, version == 2),
                )
            )
    cases += [
        (f"endpoint {kind}", DESCRIBE_CLUSTER, 1, DescribeClusterRequest(False, kind))
        for kind in (0, 2, 3, -1)
    ]
    cases += [
        ("new id", INIT_PRODUCER_ID, version, InitProducerIdRequest(None, 1000)) for version in range(6)
    ]
    for what, message in (
        ("had one", InitProducerIdRequest(None, 1000, 7, 3)),
        ("id without epoch", InitProducerIdRequest(None, 1000, 7, -1)),
        ("epoch without id", InitProducerIdRequest(None, 1000, -1, 1)),
        ("empty transactional id", InitProducerIdRequest("", 1000)),
    ):
        cases.append((what, INIT_PRODUCER_ID, 4, message))
    for name, software in (("", ""), ("a", ""), ("a b", "1"), ("-a", "1"), ("a", "1.0-x")):
        cases.append((f"software {name!r} {software!r}", API_VERSIONS, 3, ApiVersionsRequest(name, software)))
    return cases


def described() -> list[Case]:
    """DescribeTopicPartitions: pages and cursors."""

    def ask(what: str, names: str, limit: int = 2000, cursor: tuple[str, int] | None = None) -> Case:
        at = None if cursor is None else DescribeTopicPartitionsRequestCursor(*cursor)
        topics = [DescribeTopicPartitionsRequestTopic(name) for name in names.split()]
        return what, DESCRIBE_TOPIC_PARTITIONS, 0, DescribeTopicPartitionsRequest(topics, limit, at)

    return [
        ask("all", ""),
        ask("all, a page", "", 4),
        ask("all, no room", "", 0),
        ask("all, less than none", "", -5),
        ask("all from a cursor", "", 2, ("a.b", 1)),
        ask("all from an absent topic", "", 2, ("b", 1)),
        ask("some", "v2 absent a.b a.b bad~name __consumer_offsets"),
        ask("some, a page", "v2 absent a.b", 3),
        ask("some, a page that ends in a topic", "v2 a.b", 2),
        ask("some from a cursor", "v2 absent a.b", 3, ("a.b", 2)),
        ask("cursor behind the last", "a.b v2", 5, ("a.b", 7)),
        ask("cursor at the end", "a.b v2", 5, ("a.b", 3)),
        ask("cursor on an absent topic", "absent v2", 5, ("absent", 0)),
        ask("cursor not asked for", "v2", 5, ("a.b", 0)),
        ask("cursor without topic", "v2", 5, ("", 0)),
        ask("all, cursor without topic", "", 2, ("", 1)),
        ask("negative cursor", "v2", 5, ("v2", -1)),
    ]


def deletions(id_of: Callable[[str], bytes]) -> list[Case]:
    """DeleteTopics: names, ids and both."""

    def ask(what: str, version: int, *topics: DeleteTopicsRequestTopic, names: str = "") -> Case:
        return what, DELETE_TOPICS, version, DeleteTopicsRequest(list(topics), names.split(), 10_000)

    by = DeleteTopicsRequestTopic
    return [
        *[ask("by version", version, names=f"v{version} absent") for version in range(2, 6)],
        ask("first version", 1, names="defaults absent"),
        ask("twice", 5, names="v6 v6 once"),
        ask("by id", 6, by(None, id_of("v6"))),
        ask("unknown id", 6, by(None, UNKNOWN_ID)),
        ask("neither, both", 6, by(None), by("v7", UNKNOWN_ID)),
        ask("same twice", 6, by(None, UNKNOWN_ID), by(None, UNKNOWN_ID), by("v7"), by("v7")),
        ask("by name and by id", 6, by("v7"), by(None, id_of("v7"))),
        ask("bad name", 6, by("a b"), by("")),
        ask("nothing", 6),
    ]


def answers(address: str) -> dict[str, Any]:
    """Every case's answer, by what was asked, for one broker that has no topics yet."""
    asker = Asker(address)
    found: dict[str, Any] = {}

    def ask(cases: list[Case]) -> None:
        for case in cases:
            what, key, version, _ = case
            name = f"{APIS[key].name} v{version}: {what}"
            assert name not in found
            found[name] = asker.ask(case)

    ask(creations())
    settle(asker.ask, len(found))
    ask(metadata(asker.id_of))
    ask(others())
    ask(described())
    ask(growing())
    settle(asker.ask, len(found))
    ask(replicas())
    for cases in (alterations(), broker_alterations(), replacements(), group_alterations()):
        ask(cases)
        number = len(found)
        settle(asker.ask, number)
        ask(descriptions(number))
        ask(
            [
                (
                    f"told of the configs now ({number})",
                    CREATE_TOPICS,
                    7,
                    CreateTopicsRequest([new(f"late{number}")]),
                )
            ]
        )
    ask(deletions(asker.id_of))
    return found
