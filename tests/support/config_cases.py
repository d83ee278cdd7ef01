"""Requests that add partitions, and that alter and describe configs; see admin_cases.

They are asked after its topics are made: a.b with three partitions, v2 to v7 with one. The broker is 1.
"""

from collections.abc import Callable
from typing import Any

from tailrace.core.protocol.apis import (
    ALTER_CONFIGS,
    CREATE_PARTITIONS,
    DESCRIBE_CONFIGS,
    INCREMENTAL_ALTER_CONFIGS,
)
from tailrace.core.protocol.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsRequestConfig,
    AlterConfigsRequestResource,
)
from tailrace.core.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsRequestAssignment,
    CreatePartitionsRequestTopic,
)
from tailrace.core.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsRequestResource,
)
from tailrace.core.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsRequestConfig,
    IncrementalAlterConfigsRequestResource,
)
from tests.support.waiting import wait_until

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)

Case = tuple[str, int, int, Any]
Ask = Callable[[Case], Any]


def growing() -> list[Case]:
    """CreatePartitions: counts and placements, good and bad."""

    def more(name: str, count: int, *placed: list[int]) -> CreatePartitionsRequestTopic:
        by_hand = [CreatePartitionsRequestAssignment(brokers) for brokers in placed]
        return CreatePartitionsRequestTopic(name, count, by_hand or None)

    def ask(what: str, *topics: CreatePartitionsRequestTopic, version: int = 3, only: bool = False) -> Case:
        return what, CREATE_PARTITIONS, version, CreatePartitionsRequest(list(topics), 10_000, only)

    return [
        *[ask("by version", more(f"v{version + 2}", 2), version=version) for version in range(4)],
        ask("as many, fewer, none", more("a.b", 3), more("v2", 1), more("v3", 0), more("v4", -1)),
        ask("absent, badly named", more("absent", 3), more("a b", 3), more("", 3)),
        ask("not to be seen", more("__cluster_metadata", 3)),
        ask("twice", more("v2", 4), more("v2", 5), more("v3", 3)),
        ask("only checked", more("v2", 9), only=True),
        ask("only checked, fewer", more("v2", 1), only=True),
        ask("placed", more("v4", 4, [1], [1])),
        ask("placed, too few", more("v5", 4, [1])),
        ask("placed, too many", more("v5", 3, [1], [1])),
        ask("placed, none", CreatePartitionsRequestTopic("v5", 3, [])),
        ask("placed badly", more("v2", 3, [99]), more("v3", 4, []), more("v5", 3, [1, 1])),
        ask("nothing"),
    ]


def changed(name: str, value: str | None, operation: int = SET) -> IncrementalAlterConfigsRequestConfig:
    """One change."""
    return IncrementalAlterConfigsRequestConfig(name, operation, value)


def of(
    kind: int, name: str, *changes: IncrementalAlterConfigsRequestConfig
) -> IncrementalAlterConfigsRequestResource:
    """The changes of one resource."""
    return IncrementalAlterConfigsRequestResource(kind, name, list(changes))


def alter(
    what: str, *resources: IncrementalAlterConfigsRequestResource, version: int = 1, only: bool = False
) -> Case:
    """An IncrementalAlterConfigs request."""
    return (
        what,
        INCREMENTAL_ALTER_CONFIGS,
        version,
        IncrementalAlterConfigsRequest(list(resources), only),
    )


def alterations() -> list[Case]:
    """IncrementalAlterConfigs of topics; and of what has no configs."""
    policy, age = "cleanup.policy", "retention.ms"
    return [
        alter("first version", of(TOPIC, "v2", changed(age, "77")), version=0),
        alter("set", of(TOPIC, "a.b", changed(age, " 78 "), changed("preallocate", "TRUE"))),
        alter("several", of(TOPIC, "v3", changed("segment.bytes", "2000000")), of(TOPIC, "absent")),
        alter("append", of(TOPIC, "v4", changed(policy, "compact", APPEND))),
        alter("append again", of(TOPIC, "v4", changed(policy, "compact", APPEND))),
        alter("append badly", of(TOPIC, "v4", changed(policy, "x", APPEND))),
        alter("subtract", of(TOPIC, "v4", changed(policy, "delete", SUBTRACT))),
        alter("subtract all", of(TOPIC, "v5", changed(policy, "delete", SUBTRACT))),
        alter("append to no list", of(TOPIC, "v4", changed(age, "1", APPEND))),
        alter("subtract from no list", of(TOPIC, "v4", changed(age, "1", SUBTRACT))),
        alter("append to nothing", of(TOPIC, "v4", changed("no.such", "1", APPEND))),
        alter("delete", of(TOPIC, "v2", changed(age, None, DELETE))),
        alter("delete what is not set", of(TOPIC, "v2", changed(age, "x", DELETE))),
        alter("delete what does not exist", of(TOPIC, "v2", changed("no.such", None, DELETE))),
        alter("only checked", of(TOPIC, "v6", changed(age, "79")), only=True),
        alter("only checked, badly", of(TOPIC, "v6", changed(age, "x")), only=True),
        alter("unknown key", of(TOPIC, "v6", changed("no.such", "1"))),
        alter("unknown key of an absent topic", of(TOPIC, "absent", changed("no.such", "1"))),
        alter("bad value", of(TOPIC, "v6", changed(age, "soon"))),
        alter("conflict", of(TOPIC, "v6", changed("min.compaction.lag.ms", "10"),
            changed("max.compaction.lag.ms", "5"))),
        alter("tiered", of(TOPIC, "v6", changed("remote.storage.enable", "true"))),
        alter("absent, badly named", *[
            of(TOPIC, name, changed(age, "1")) for name in ("absent", "a b", "", "__cluster_metadata")]),
        alter("resource twice", of(TOPIC, "v6", changed(age, "1")), of(TOPIC, "v6"), of(TOPIC, "v7")),
        alter("key twice", of(TOPIC, "v6", changed(age, "1"), changed(age, "2"))),
        alter("null", of(TOPIC, "v6", changed(age, None), changed("segment.ms", None))),
        alter("no changes", of(TOPIC, "v6")),
        alter("no resources"),
        alter("unknown types", *[of(kind, "x", changed("a", "1")) for kind in (0, 3, 99)]),
    ]  # fmt: skip


def broker_alterations() -> list[Case]:
    """IncrementalAlterConfigs of one broker and of all."""
    size = "log.segment.bytes"
    return [
        alter("all brokers", of(BROKER, "", changed(size, "3000000"), changed("log.roll.ms", "600000"))),
        alter("one broker", of(BROKER, "1", changed(size, "4000000"))),
        alter("broker, only checked", of(BROKER, "1", changed(size, "5000000")), only=True),
        alter("broker, deleted", of(BROKER, "", changed("log.index.interval.bytes", None, DELETE))),
        alter("broker, deleted and static", of(BROKER, "", changed("num.partitions", None, DELETE))),
        alter("broker, static", of(BROKER, "", changed("num.partitions", "2"), changed("log.dirs", "x"))),
        alter("broker, bad values", *[of(BROKER, name, changed(size, value))
            for name, value in (("", "x"), ("1", "1"))]),
        alter("other brokers", *[of(BROKER, name, changed(size, "3000000")) for name in ("7", "x", "-1")]),
        alter("broker, append", of(BROKER, "", changed(size, "1", APPEND))),
        alter("broker, append to nothing", of(BROKER, "", changed("no.such", "1", APPEND))),
        alter("broker, unknown operation", of(BROKER, "", changed(size, "1", 9))),
    ]  # fmt: skip


def replacements() -> list[Case]:
    """AlterConfigs, which replaces all that is set."""

    def ask(
        what: str, kind: int, name: str, version: int = 2, *, only: bool = False, **configs: str | None
    ) -> Case:
        given = [AlterConfigsRequestConfig(key.replace("_", "."), value) for key, value in configs.items()]
        resource = AlterConfigsRequestResource(kind, name, given)
        return what, ALTER_CONFIGS, version, AlterConfigsRequest([resource], only)

    twice = [AlterConfigsRequestConfig("segment.ms", value) for value in "12"]
    return [
        *[ask("by version", TOPIC, f"v{version + 4}", version, segment_ms="5000") for version in range(3)],
        ask("replaced", TOPIC, "a.b", segment_bytes="2500000"),
        ask("replaced by nothing", TOPIC, "v2"),
        ask("only checked", TOPIC, "v3", only=True),
        ask("absent", TOPIC, "absent", segment_ms="5000"),
        ask("bad value", TOPIC, "v3", segment_ms="x"),
        ask("null", TOPIC, "v3", segment_ms=None),
        ("key twice", ALTER_CONFIGS, 2, AlterConfigsRequest([AlterConfigsRequestResource(2, "v3", twice)])),
        ask("broker", BROKER, "1", log_segment_bytes="6000000"),
        ask("broker, static", BROKER, "", num_partitions="6"),
        ask("other broker", BROKER, "x", log_segment_bytes="6000000"),
        ask("unknown type", 0, "x", a="1"),
    ]


def group_alterations() -> list[Case]:
    """The configs of groups, which need not exist."""
    session, heartbeat = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"
    return [
        alter("group", of(GROUP, "g", changed(session, " 50000 "))),
        alter("group, bad values", *[of(GROUP, f"g{number}", change) for number, change in enumerate((
            changed(session, "1"), changed(session, "100000"), changed(session, "x"),
            changed(heartbeat, "1"), changed(heartbeat, "20000"), changed("no.such", "1"),
            changed(session, "1", APPEND)))]),
        alter("no group", of(GROUP, "", changed(session, "50000"))),
    ]  # fmt: skip


def descriptions(number: int) -> list[Case]:
    """DescribeConfigs of all that the cases before have altered; `number` tells the times apart."""

    def ask(what: str, kind: int, name: str, keys: str = "", version: int = 4, *, more: bool = True) -> Case:
        resource = DescribeConfigsRequestResource(kind, name, keys.split() or None)
        message = DescribeConfigsRequest([resource], more, more and version >= 3)
        return f"{what} ({number})", DESCRIBE_CONFIGS, version, message

    broker_keys = (
        "log.segment.bytes log.roll.ms log.roll.hours log.retention.ms log.retention.minutes no.such "
        "log.retention.hours log.index.interval.bytes log.segment.delete.delay.ms num.partitions "
        "delete.topic.enable log.cleaner.min.cleanable.ratio log.message.timestamp.type broker.rack "
        "log.flush.interval.ms log.flush.scheduler.interval.ms"
    )
    return [
        *[ask(f"topic {name}", TOPIC, name) for name in ("a.b", "v2", "v3", "v4", "v5", "v6")],
        ask("topic, only values", TOPIC, "a.b", more=False),
        *[ask("topic, some keys", TOPIC, "a.b", "retention.ms no.such segment.ms", version)
            for version in range(1, 5)],
        *[ask(f"topic {name!r}", TOPIC, name) for name in ("absent", "a b", "")],
        ask("broker", BROKER, "1", broker_keys),
        ask("all brokers", BROKER, ""),
        *[ask(f"broker {name}", BROKER, name) for name in ("7", "x")],
        *[ask(f"group {name!r}", GROUP, name, "consumer.session.timeout.ms consumer.heartbeat.interval.ms")
            for name in ("g", "other", "")],
        *[ask(f"loggers of {name!r}", LOGGER, name) for name in ("", "7", "x")],
        ask("metrics of nobody", METRICS, ""),
    ]  # fmt: skip


def settle(ask: Ask, number: int) -> None:
    """Wait until the broker obeys all that was altered before: Kafka's hears of it after the answer."""
    mark = str(1000 + number)
    ask(alter("mark", of(BROKER, "", changed("max.connections", mark))))
    resource = DescribeConfigsRequestResource(BROKER, "1", ["max.connections"])
    case = ("mark", DESCRIBE_CONFIGS, 4, DescribeConfigsRequest([resource]))
    wait_until(lambda: ask(case)["results"][0]["configs"][0]["value"] == mark, "the configs to count")
