"""The broker keys of the group coordinator; the columns are those of config_keys.Key."""

from typing import Final

_INT_MAX: Final = 2**31 - 1
_ASSIGNORS = ("uniform", "range")

_POLICIES = ("DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL")

Row = tuple[str, str, int | str | tuple[str, ...], float | None, float | None, str, tuple[str, ...]]

OFFSETS_TOPIC_CONFIGS: Final = (("compression.type", "producer"), ("cleanup.policy", "compact"))
"""What __consumer_offsets is made with, besides its segment.bytes."""

GROUP_KEYS: Final[list[Row]] = [
    (
        "group.consumer.assignors",
        "LIST",
        _ASSIGNORS,
        None,
        None,
        "assignors of the new protocol, best first",
        (),
    ),
    (
        "group.consumer.heartbeat.interval.ms",
        "INT",
        5_000,
        1,
        None,
        "pause between heartbeats of a member",
        (),
    ),
    ("group.consumer.max.heartbeat.interval.ms", "INT", 15_000, 1, None, "largest a group may ask for", ()),
    ("group.consumer.max.session.timeout.ms", "INT", 60_000, 1, None, "largest a group may ask for", ()),
    ("group.consumer.max.size", "INT", _INT_MAX, 1, None, "most members of a group of the new protocol", ()),
    (
        "group.consumer.migration.policy",
        "STRING",
        "bidirectional",
        None,
        None,
        "which way groups may change protocol",
        _POLICIES,
    ),
    ("group.consumer.min.heartbeat.interval.ms", "INT", 5_000, 1, None, "smallest a group may ask for", ()),
    ("group.consumer.min.session.timeout.ms", "INT", 45_000, 1, None, "smallest a group may ask for", ()),
    (
        "group.consumer.session.timeout.ms",
        "INT",
        45_000,
        1,
        None,
        "a silent member is removed after this",
        (),
    ),
    ("group.initial.rebalance.delay.ms", "INT", 0, None, None, "wait for more members of a new group", ()),
    ("group.max.session.timeout.ms", "INT", 1_800_000, None, None, "largest a member may ask for", ()),
    ("group.max.size", "INT", _INT_MAX, 1, None, "most members of a group", ()),
    ("group.min.session.timeout.ms", "INT", 6_000, None, None, "smallest a member may ask for", ()),
    ("offset.metadata.max.bytes", "INT", 4_096, None, None, "most bytes beside a committed offset", ()),
    (
        "offsets.retention.check.interval.ms",
        "LONG",
        600_000,
        1,
        None,
        "pause between looks for old offsets",
        (),
    ),
    ("offsets.retention.minutes", "INT", 10_080, 1, None, "offsets of an empty group go after this", ()),
    (
        "offsets.topic.num.partitions",
        "INT",
        4,
        1,
        None,
        "partitions of __consumer_offsets when it is made",
        (),
    ),
    (
        "offsets.topic.replication.factor",
        "SHORT",
        3,
        1,
        None,
        "replicas of __consumer_offsets when it is made; no more than there are brokers",
        (),
    ),
    ("offsets.topic.segment.bytes", "INT", 104_857_600, 1, None, "segments of __consumer_offsets", ()),
]
