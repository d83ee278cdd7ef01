"""The broker and topic keys that are obeyed: Kafka's names, types, defaults and bounds, and a line on each.

A default that is not Kafka's own stands in OWN_DEFAULTS with its reason. How a text becomes a value, and
what is said about one that cannot, is `parse_value`: the rules and the sentences are those of Kafka's
ConfigDef.
"""

from typing import NamedTuple

from tailrace.core.config_group_keys import GROUP_KEYS
from tailrace.core.config_quorum_keys import QUORUM_KEYS

Value = int | float | str | tuple[str, ...] | None

INT, SHORT, LONG, DOUBLE = "INT", "SHORT", "LONG", "DOUBLE"
BOOLEAN, STRING, LIST, PASSWORD, CLASS = "BOOLEAN", "STRING", "LIST", "PASSWORD", "CLASS"

MIN_INSYNC = "min.insync.replicas"
RACK_AWARE_SELECTOR = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
UNCLEAN_ELECTION = "unclean.leader.election.enable"  # by name where decisions look into a topic's configs

INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1
BROKERS_MAX = 3
_RANGES = {SHORT: 2**15, INT: 2**31, LONG: 2**63}


class ConfigError(Exception):
    """A configuration that cannot be used, in one line that says what to change."""


class Key(NamedTuple):
    """One key: its kind, its default, its bounds or choices, and one line of documentation."""

    name: str
    kind: str
    default: Value
    low: float | None
    high: float | None
    doc: str
    choices: tuple[str, ...] = ()


NOT_EMPTY = (
    "advertised.listeners", "controller.listener.names", "group.consumer.assignors", "listeners", "log.dir",
    "log.dirs",
)  # fmt: skip
THROTTLED = ("follower.replication.throttled.replicas", "leader.replication.throttled.replicas")


def _table(*keys: Key) -> dict[str, Key]:
    return {key.name: key for key in keys}


_CODECS = ("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer")
_POLICIES = ("compact", "delete")
_TIMESTAMP_TYPES = ("CreateTime", "LogAppendTime")

TOPIC_KEYS = _table(
    Key(
        "cleanup.policy",
        LIST,
        ("delete",),
        None,
        None,
        "delete old segments, compact them, or both",
        _POLICIES,
    ),
    Key("compression.gzip.level", INT, -1, 1, 9, "level when the broker compresses with gzip, or -1"),
    Key("compression.lz4.level", INT, 9, 1, 17, "level when the broker compresses with lz4"),
    Key(
        "compression.type",
        STRING,
        "producer",
        None,
        None,
        "codec of stored batches; producer: as sent",
        _CODECS,
    ),
    Key("compression.zstd.level", INT, 3, -131072, 22, "level when the broker compresses with zstd"),
    Key("delete.retention.ms", LONG, 86_400_000, 0, None, "how long tombstones outlive compaction"),
    Key("file.delete.delay.ms", LONG, 60_000, 0, None, "wait before a removed segment's file goes"),
    Key("flush.messages", LONG, LONG_MAX, 1, None, "records between forced flushes"),
    Key("flush.ms", LONG, LONG_MAX, 0, None, "longest time before a forced flush"),
    Key(
        "follower.replication.throttled.replicas",
        LIST,
        (),
        None,
        None,
        "partition:broker pairs that are throttled",
    ),
    Key("index.interval.bytes", INT, 4096, 0, None, "bytes of log between two index entries"),
    Key("internal.segment.bytes", INT, None, 1, None, "segment.bytes without its lower bound, for tests"),
    Key(
        "leader.replication.throttled.replicas",
        LIST,
        (),
        None,
        None,
        "partition:broker pairs that are throttled",
    ),
    Key("local.retention.bytes", LONG, -2, -2, None, "of tiered storage, which is not offered"),
    Key("local.retention.ms", LONG, -2, -2, None, "of tiered storage, which is not offered"),
    Key("max.compaction.lag.ms", LONG, LONG_MAX, 1, None, "longest time a record may stay uncompacted"),
    Key("max.message.bytes", INT, 1_048_588, 0, None, "largest record batch"),
    Key(
        "message.timestamp.after.max.ms",
        LONG,
        3_600_000,
        0,
        None,
        "how far a timestamp may lie ahead of the clock",
    ),
    Key(
        "message.timestamp.before.max.ms",
        LONG,
        LONG_MAX,
        0,
        None,
        "how far a timestamp may lie behind the clock",
    ),
    Key(
        "message.timestamp.type",
        STRING,
        "CreateTime",
        None,
        None,
        "whose clock stamps records",
        _TIMESTAMP_TYPES,
    ),
    Key("min.cleanable.dirty.ratio", DOUBLE, 0.5, 0, 1, "share of uncompacted bytes that starts compaction"),
    Key("min.compaction.lag.ms", LONG, 0, 0, None, "shortest time a record stays uncompacted"),
    Key(
        "min.insync.replicas", INT, 1, 1, None, "replicas that must hold a record before acks=all is answered"
    ),
    Key("preallocate", BOOLEAN, False, None, None, "reserve a segment's whole size when it is made"),
    Key("remote.log.copy.disable", BOOLEAN, False, None, None, "of tiered storage, which is not offered"),
    Key(
        "remote.log.delete.on.disable", BOOLEAN, False, None, None, "of tiered storage, which is not offered"
    ),
    Key("remote.storage.enable", BOOLEAN, False, None, None, "tiered storage: refused when true"),
    Key(
        "retention.bytes",
        LONG,
        -1,
        None,
        None,
        "size of a partition above which its oldest segments go; -1: none",
    ),
    Key("retention.ms", LONG, 604_800_000, -1, None, "age at which segments go; -1: never"),
    Key("segment.bytes", INT, 1_073_741_824, 1_048_576, None, "size at which a new segment is begun"),
    Key("segment.index.bytes", INT, 10_485_760, 4, None, "largest size of an index file"),
    Key("segment.jitter.ms", LONG, 0, 0, None, "random part subtracted from segment.ms"),
    Key("segment.ms", LONG, 604_800_000, 1, None, "age at which a new segment is begun"),
    Key(
        "unclean.leader.election.enable", BOOLEAN, False, None, None, "elect a replica that may lack records"
    ),
)

# What Kafka keeps in ServerTopicConfigSynonyms: the first broker key that is set gives the topic key's
# default; the factor turns its unit into the topic key's.
TOPIC_SYNONYMS: dict[str, tuple[tuple[str, int], ...]] = {
    "cleanup.policy": (("log.cleanup.policy", 1),),
    "compression.gzip.level": (("compression.gzip.level", 1),),
    "compression.lz4.level": (("compression.lz4.level", 1),),
    "compression.type": (("compression.type", 1),),
    "compression.zstd.level": (("compression.zstd.level", 1),),
    "delete.retention.ms": (("log.cleaner.delete.retention.ms", 1),),
    "file.delete.delay.ms": (("log.segment.delete.delay.ms", 1),),
    "flush.messages": (("log.flush.interval.messages", 1),),
    "flush.ms": (("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)),
    "index.interval.bytes": (("log.index.interval.bytes", 1),),
    "local.retention.bytes": (("log.local.retention.bytes", 1),),
    "local.retention.ms": (("log.local.retention.ms", 1),),
    "max.compaction.lag.ms": (("log.cleaner.max.compaction.lag.ms", 1),),
    "max.message.bytes": (("message.max.bytes", 1),),
    "message.timestamp.after.max.ms": (("log.message.timestamp.after.max.ms", 1),),
    "message.timestamp.before.max.ms": (("log.message.timestamp.before.max.ms", 1),),
    "message.timestamp.type": (("log.message.timestamp.type", 1),),
    "min.cleanable.dirty.ratio": (("log.cleaner.min.cleanable.ratio", 1),),
    "min.compaction.lag.ms": (("log.cleaner.min.compaction.lag.ms", 1),),
    "min.insync.replicas": (("min.insync.replicas", 1),),
    "preallocate": (("log.preallocate", 1),),
    "retention.bytes": (("log.retention.bytes", 1),),
    "retention.ms": (
        ("log.retention.ms", 1),
        ("log.retention.minutes", 60_000),
        ("log.retention.hours", 3_600_000),
    ),
    "segment.bytes": (("log.segment.bytes", 1),),
    "segment.index.bytes": (("log.index.size.max.bytes", 1),),
    "segment.jitter.ms": (("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", 3_600_000)),
    "segment.ms": (("log.roll.ms", 1), ("log.roll.hours", 3_600_000)),
    "unclean.leader.election.enable": (("unclean.leader.election.enable", 1),),
}

# A synonym is of its topic key's type and bounds; where the broker's differ, they stand here.
_SYNONYM_DIFFERENCES = _table(
    Key("log.flush.interval.ms", LONG, None, None, None, "default of flush.ms"),
    Key("log.retention.ms", LONG, None, None, None, "default of retention.ms"),
    Key("log.retention.minutes", INT, None, None, None, "default of retention.ms, in minutes"),
    Key("log.retention.hours", INT, 168, None, None, "default of retention.ms, in hours"),
    Key("log.roll.jitter.ms", LONG, None, None, None, "default of segment.jitter.ms"),
    Key("log.roll.jitter.hours", INT, 0, 0, None, "default of segment.jitter.ms, in hours"),
    Key("log.roll.ms", LONG, None, None, None, "default of segment.ms"),
    Key("log.roll.hours", INT, 168, 1, None, "default of segment.ms, in hours"),
    Key(
        "log.flush.scheduler.interval.ms",
        LONG,
        LONG_MAX,
        None,
        None,
        "default of flush.ms, after log.flush.interval.ms",
    ),
)


def _synonym_keys() -> dict[str, Key]:
    keys: dict[str, Key] = {}
    for topic_name, synonyms in TOPIC_SYNONYMS.items():
        for broker_name, _ in synonyms:
            different = _SYNONYM_DIFFERENCES.get(broker_name)
            keys[broker_name] = different or TOPIC_KEYS[topic_name]._replace(name=broker_name)
    return keys


_MAP = "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT"

PRODUCER_EXPIRATION = "producer.id.expiration.ms"

BROKER_KEYS = _synonym_keys() | _table(
    Key(
        "advertised.listeners",
        LIST,
        None,
        None,
        None,
        "addresses told to clients; sets advertised.mode=fixed",
    ),
    Key(
        "advertised.mode", STRING, None, None, None, "auto: the address the client came by", ("auto", "fixed")
    ),
    Key("auto.create.topics.enable", BOOLEAN, True, None, None, "make a topic when it is first asked for"),
    Key("auto.leader.rebalance.enable", BOOLEAN, True, None, None, "give preferred leaders their turn again"),
    Key("broker.id", INT, -1, None, None, "older name of node.id"),
    Key("broker.rack", STRING, None, None, None, "rack told to clients"),
    Key("brokers", INT, 1, 1, BROKERS_MAX, "virtual brokers on this host; see also broker.<id>.<key>"),
    Key("cluster.id", STRING, None, None, None, "id of a cluster that is formed by this start"),
    Key("connections.max.idle.ms", LONG, 600_000, None, None, "idle connections are closed after this"),
    Key(
        "controller.listener.names",
        LIST,
        (),
        None,
        None,
        "listeners that are left out: our controller needs none",
    ),
    Key(
        "controlled.shutdown.enable", BOOLEAN, True, None, None, "a broker that stops alone hands over first"
    ),
    Key("default.replication.factor", INT, 1, None, None, "replicas of a topic that does not say"),
    Key("delete.topic.enable", BOOLEAN, True, None, None, "whether topics may be deleted"),
    Key(
        "disk.reserve.bytes",
        LONG,
        -1,
        -1,
        None,
        "disk space that appends leave free; -1: a 32nd of the file system, at most 64 MiB",
    ),
    Key("fetch.max.bytes", INT, 57_671_680, 1024, None, "most bytes of one fetch response"),
    Key("flush.group.ms", INT, 0, 0, None, "with flush.policy=group: pause before a sync; 0 is the quickest"),
    Key("flush.policy", STRING, "page", None, None, "when data reaches the disk", ("page", "group", "each")),
    Key("leader.imbalance.check.interval.seconds", LONG, 300, 1, None, "pause between such elections"),
    Key("listener.security.protocol.map", STRING, _MAP, None, None, "the protocol of each listener name"),
    Key("listeners", LIST, ("PLAINTEXT://127.0.0.1:9092",), None, None, "addresses served: NAME://host:port"),
    Key("log.dir", LIST, (), None, None, "data directory, when log.dirs is not set"),
    Key("log.dirs", LIST, None, None, None, "data directories"),
    Key(
        "log.flush.offset.checkpoint.interval.ms",
        INT,
        60_000,
        0,
        None,
        "pause between recovery-point checkpoints",
    ),
    Key(
        "log.flush.start.offset.checkpoint.interval.ms",
        INT,
        60_000,
        0,
        None,
        "pause between checkpoints of where logs start",
    ),
    Key("max.connection.creation.rate", INT, INT_MAX, 0, None, "most new connections a second"),
    Key("max.connections", INT, INT_MAX, 0, None, "most connections at a time; others wait"),
    Key("max.connections.per.ip", INT, INT_MAX, 0, None, "most connections from one address"),
    Key("max.connections.per.ip.overrides", STRING, "", None, None, "of single addresses: HOST:COUNT,..."),
    Key("max.decompressed.message.bytes", INT, 268_435_456, 1, None, "largest batch when it is decompressed"),
    Key("max.incremental.fetch.session.cache.slots", INT, 1000, 0, None, "most fetch sessions kept"),
    Key(
        "max.request.partition.size.limit",
        INT,
        2000,
        1,
        None,
        "most partitions of a DescribeTopicPartitions answer",
    ),
    Key("metadata.log.dir", STRING, None, None, None, "the metadata log's; default: the first of log.dirs"),
    Key("node.id", INT, 0, 0, None, "id of the first broker"),
    Key("num.partitions", INT, 1, 1, None, "partitions of a topic that does not say"),
    Key(PRODUCER_EXPIRATION, INT, 86_400_000, 1, None, "how long an idle producer is remembered"),
    Key("queued.max.request.bytes", LONG, -1, None, None, "most bytes of requests held; -1: no limit"),
    Key(
        "replica.lag.time.max.ms", LONG, 30000, None, None, "who has not caught up for longer is not in sync"
    ),
    Key("replica.high.watermark.checkpoint.interval.ms", LONG, 5000, None, None, "pause between checkpoints"),
    Key(
        "replica.selector.class", STRING, None, None, None, "whom consumers are sent to: not set, the leader"
    ),
    Key("run.dir", STRING, None, None, None, "where shared memory lives; default: its own place in /dev/shm"),
    Key("shm.ring.bytes", INT, 1_048_576, 65_536, 2**30, "capacity of a byte ring between two processes"),
    Key("socket.listen.backlog.size", INT, 50, 1, None, "connections waiting to be accepted"),
    Key("socket.receive.buffer.bytes", INT, 102_400, None, None, "SO_RCVBUF; -1: the system's"),
    Key("socket.request.max.bytes", INT, 104_857_600, 1, None, "largest request"),
    Key("socket.send.buffer.bytes", INT, 102_400, None, None, "SO_SNDBUF; -1: the system's"),
    Key("supervisor.restart.backoff.ms", INT, 50, 1, 60_000, "first pause before a process is restarted"),
    Key(
        "supervisor.stall.timeout.ms", INT, 10_000, 0, None, "a process that stands still is killed; 0: never"
    ),
    Key("unix.socket.mode", STRING, "0600", None, None, "permissions of the Unix socket, octal"),
    Key("unix.socket.path", STRING, None, None, None, "Unix socket; empty: none; default: in run.dir"),
    Key("workers.max", INT, 32, 1, 4096, "most leader worker processes"),
    *(Key(*row) for row in (*GROUP_KEYS, *QUORUM_KEYS)),
)

# Where we differ from Kafka on purpose.
OWN_DEFAULTS = {
    "listeners": "loopback only, unless told otherwise",
    "controller.listener.names": "required by Kafka, needless here",
    "controller.quorum.election.timeout.ms": "controllers share a host",
    "log.dir": "Kafka's is under /tmp, which a restart of the machine empties",
    "node.id": "required by Kafka; one node needs no choice",
    "group.initial.rebalance.delay.ms": "on one node a first member need not wait 3 s for others",
    "offsets.topic.num.partitions": "Kafka's 50 spread load over brokers; one host has one",
}
OWN_KEYS = frozenset(
    [
        "advertised.mode",
        "brokers",
        "cluster.id",
        "disk.reserve.bytes",
        "flush.group.ms",
        "flush.policy",
        "max.decompressed.message.bytes",
        "run.dir",
        "shm.ring.bytes",
        "supervisor.restart.backoff.ms",
        "supervisor.stall.timeout.ms",
        "unix.socket.mode",
        "unix.socket.path",
        "workers.max",
    ]
)

# Keys that are checked and kept, and that nothing reads so far: whoever sets one is told so. Who makes the
# broker obey one takes its name from here (a test compares this with the sources).
NOT_YET_OBEYED = frozenset(
    {
        *(name for name in BROKER_KEYS if name.startswith(("log.cleaner.", "log.local.", "log.retention."))),
        "log.cleanup.policy",
        "log.segment.delete.delay.ms",
        "shm.ring.bytes",
        "socket.receive.buffer.bytes",
        "socket.send.buffer.bytes",
    }
)


def parse_value(key: Key, text: str) -> Value:
    """The typed value of a text, or ConfigError in Kafka's words."""
    value = parse_kind(key.name, key.kind, text)
    if isinstance(value, tuple):
        _check_list(key, value)
    if key.choices:
        _check_choices(key, value)
    elif isinstance(value, int | float):
        _check_bounds(key, value)
    return value


def parse_kind(name: str, kind: str, text: str) -> Value:
    """A text as a value of `kind`, its bounds unchecked."""
    if kind in (STRING, CLASS, PASSWORD):
        return text if kind == PASSWORD else text.strip()
    if kind == LIST:
        return _parse_list(name, text.strip())
    if kind == BOOLEAN:
        lowered = text.strip().lower()
        if lowered not in ("true", "false"):
            raise _invalid(name, text, "Expected value to be either true or false")
        return lowered == "true"
    return _parse_number(name, kind, text)


def value_text(value: Value) -> str | None:
    """A value as a properties file has it; None for one that is not set."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(value)
    return None if value is None else str(value)


def _parse_list(name: str, text: str) -> tuple[str, ...]:
    if not text:
        return ()
    items = tuple(item.strip() for item in text.split(","))
    if name in THROTTLED:
        return items
    if "" in items:
        raise ConfigError(f"Configuration '{name}' values must not be empty.")
    if len(set(items)) != len(items):
        raise ConfigError(f"Configuration '{name}' values must not be duplicated.")
    return items


def _parse_number(name: str, kind: str, text: str) -> int | float:
    try:
        if "_" in text:  # Python takes it, Java does not
            raise ValueError
        if kind == DOUBLE:
            return float(text)
        value = int(text)
    except ValueError:
        raise _invalid(name, text, f"Not a number of type {kind}") from None
    limit = _RANGES[kind]
    if not -limit <= value < limit:
        raise _invalid(name, text, f"Not a number of type {kind}")
    return value


def _check_list(key: Key, value: tuple[str, ...]) -> None:
    if key.name in NOT_EMPTY and not value:
        raise ConfigError(
            f"Configuration '{key.name}' must not be empty. Valid values include: any non-empty value"
        )
    if key.name in THROTTLED and value != ("*",) and not all(map(_is_replica, value)):
        raise _invalid(
            key.name,
            _shown(value),
            f"{key.name} must be the literal '*' or a list of replicas in the following format: "
            "[partitionId]:[brokerId],[partitionId]:[brokerId],...",
        )


def _is_replica(text: str) -> bool:
    partition, colon, broker = text.partition(":")
    return bool(colon) and all(part.isascii() and part.isdigit() for part in (partition, broker))


def _shown(value: tuple[str, ...]) -> str:
    """A list as Java shows it."""
    return f"[{', '.join(value)}]"


def _check_bounds(key: Key, value: float) -> None:
    if key.name == "compression.gzip.level" and key.low is not None and key.high is not None:
        if value != -1 and not key.low <= value <= key.high:
            raise _invalid(key.name, value, f"Value must be between {key.low} and {key.high} or equal to -1")
        return
    if key.low is not None and not value >= key.low:  # so put that NaN is refused as well
        raise _invalid(key.name, value, f"Value must be at least {key.low:.0f}")
    if key.high is not None and value > key.high:
        raise _invalid(key.name, value, f"Value must be no more than {key.high:.0f}")


def _check_choices(key: Key, value: Value) -> None:
    for item in value if isinstance(value, tuple) else (value,):
        caseless = key.name == "group.consumer.migration.policy"
        if (str(item).upper() if caseless else item) not in key.choices:
            note = " (case insensitive)" if caseless else ""
            raise _invalid(key.name, item, f"String must be one of{note}: {', '.join(key.choices)}")


def _invalid(name: str, value: object, why: str) -> ConfigError:
    shown = str(value)
    if len(shown) > 80:
        shown = shown[:80] + "..."
    return ConfigError(f"Invalid value {shown!s} for configuration {name}: {why}".replace("\n", "\\n"))
