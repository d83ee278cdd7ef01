"""The broker's configuration: keys from a file, the environment and the command line, typed and checked.

    config, warnings = load(file_properties, environ, overrides)

A later source wins: defaults, file, environment, command line. Whoever reads a BrokerConfig finds values
that are whole: types, bounds and what must agree between keys were checked when it was made. Topic keys
are checked by `validate_topic_config` and completed from the broker's own keys by
`effective_topic_config`.
"""

from collections.abc import Callable, Mapping

import msgspec

from tailrace.core.config_keys import (
    BROKER_KEYS,
    MIN_INSYNC,
    NOT_YET_OBEYED,
    PRODUCER_EXPIRATION,
    RACK_AWARE_SELECTOR,
    THROTTLED,
    TOPIC_KEYS,
    TOPIC_SYNONYMS,
    UNCLEAN_ELECTION,
    ConfigError,
    Key,
    Value,
    parse_value,
    value_text,
)
from tailrace.core.config_sources import ENVIRONMENT, Given, gather, take_own
from tailrace.core.connection_quotas import check_none_locked_out, parse_overrides
from tailrace.core.listeners import Listener, advertised_listeners, parse_listeners, without_controllers
from tailrace.core.log.log_config import LogConfig

__all__ = [
    "ACCEPTED_IDLE",
    "TOPIC_CONFIGS",
    "BrokerConfig",
    "ConfigError",
    "Key",
    "Listener",
    "Value",
    "effective_topic_config",
    "load",
    "log_config",
    "min_insync_replicas",
    "topic_defaults",
    "validate_topic_config",
    "validate_topic_configs",
    "without_effect",
]

TOPIC_CONFIGS = TOPIC_KEYS

STALL_MS_MIN = 2000  # who has nothing to do shows that it lives every second, under load later
_UNIX_PATH_MAX = 107  # sockaddr_un holds 108 bytes, the last a NUL


class BrokerConfig:
    """Typed values of every obeyed key: `get(name)` for any, attributes for what is read often."""

    def __init__(
        self,
        values: dict[str, Value],
        given: Mapping[str, Given],
        own: Mapping[int, Mapping[str, Given]] | None = None,
    ) -> None:
        self._values = values
        self.given = given  # every key that has a source, obeyed or not
        self.own = own or {}  # by node id: `broker.<id>.<key>`, see core/config_brokers.py
        self.brokers = self.integer("brokers")
        self.node_id = self.integer("node.id")
        self.cluster_id = self.optional_text("cluster.id") or None
        self.controlled_shutdown_enable = self.boolean("controlled.shutdown.enable")
        self.replica_selector_class = self.optional_text("replica.selector.class")
        if self.replica_selector_class not in (None, "", RACK_AWARE_SELECTOR):
            raise ConfigError(f"replica.selector.class is {RACK_AWARE_SELECTOR}, or not set")
        self.rack = self.optional_text("broker.rack")
        self._read_addresses()
        self._read_limits()
        self.log_dirs = self.names("log.dirs")
        self.metadata_log_dir = self.optional_text("metadata.log.dir") or (self.log_dirs or ("",))[0]
        self._read_quorum()
        self.run_dir = self.optional_text("run.dir")
        self.workers_max = self.integer("workers.max")
        self.supervisor_restart_backoff_ms = self.integer("supervisor.restart.backoff.ms")
        self.supervisor_stall_timeout_ms = self.integer("supervisor.stall.timeout.ms")
        if 0 < self.supervisor_stall_timeout_ms < STALL_MS_MIN:
            raise ConfigError(f"supervisor.stall.timeout.ms is 0 (never) or {STALL_MS_MIN} and more")
        self.shm_ring_bytes = self.integer("shm.ring.bytes")
        self.flush_policy = self.text("flush.policy")
        self.flush_group_ms = self.integer("flush.group.ms")
        self.disk_reserve_bytes = self.integer("disk.reserve.bytes")
        self.num_partitions = self.integer("num.partitions")
        self.default_replication_factor = self.integer("default.replication.factor")
        self.auto_create_topics_enable = self.boolean("auto.create.topics.enable")
        self.delete_topic_enable = self.boolean("delete.topic.enable")
        self.auto_leader_rebalance_enable = self.boolean("auto.leader.rebalance.enable")
        self.leader_imbalance_check_interval_seconds = self.integer("leader.imbalance.check.interval.seconds")
        self.unclean_leader_election_enable = self.boolean("unclean.leader.election.enable")
        self.min_insync_replicas = self.integer("min.insync.replicas")
        self.replica_lag_time_max_ms = self.integer("replica.lag.time.max.ms")
        self.message_max_bytes = self.integer("message.max.bytes")
        self.producer_id_expiration_ms = self.integer("producer.id.expiration.ms")
        self.log_flush_offset_checkpoint_interval_ms = self.integer("log.flush.offset.checkpoint.interval.ms")
        self.log_flush_start_offset_checkpoint_interval_ms = self.integer(
            "log.flush.start.offset.checkpoint.interval.ms"
        )
        self.replica_high_watermark_checkpoint_interval_ms = self.integer(
            "replica.high.watermark.checkpoint.interval.ms"
        )

    def _read_quorum(self) -> None:
        self.controller_quorum_auto_join_enable = self.boolean("controller.quorum.auto.join.enable")
        self.controller_quorum_election_timeout_ms = self.integer("controller.quorum.election.timeout.ms")
        self.controller_quorum_fetch_max_bytes = self.integer("controller.quorum.fetch.max.bytes")
        self.controller_quorum_fetch_snapshot_max_bytes = self.integer(
            "controller.quorum.fetch.snapshot.max.bytes"
        )
        self.controller_quorum_fetch_timeout_ms = self.integer("controller.quorum.fetch.timeout.ms")
        self.controller_quorum_request_timeout_ms = self.integer("controller.quorum.request.timeout.ms")
        self.metadata_log_max_record_bytes_between_snapshots = self.integer(
            "metadata.log.max.record.bytes.between.snapshots"
        )
        self.metadata_log_max_snapshot_interval_ms = self.integer("metadata.log.max.snapshot.interval.ms")
        self.unclean_leader_election_interval_ms = self.integer("unclean.leader.election.interval.ms")

    def _read_addresses(self) -> None:
        protocols = self.text("listener.security.protocol.map")
        controllers = self.names("controller.listener.names")
        listeners = without_controllers(parse_listeners("listeners", self.names("listeners")), controllers)
        self.listeners: tuple[Listener, ...] = listeners
        self.advertised_listeners: tuple[Listener, ...] = ()
        advertised = (
            self.names("advertised.listeners") if self._values["advertised.listeners"] is not None else ()
        )
        self.advertised_mode = self.optional_text("advertised.mode") or ("fixed" if advertised else "auto")
        self._values["advertised.mode"] = self.advertised_mode
        if self.advertised_mode == "fixed":
            self.advertised_listeners = advertised_listeners(advertised, listeners, controllers)
        check_protocols(listeners, protocols)
        path = self.optional_text("unix.socket.path")
        self.unix_socket_path = path  # None: in the run directory; empty: no Unix socket
        if path is not None and len(path.encode("utf-8", "surrogateescape")) > _UNIX_PATH_MAX:
            raise ConfigError(
                f"unix.socket.path is longer than the {_UNIX_PATH_MAX} bytes a Unix socket allows: {path}"
            )
        self.unix_socket_mode = _octal("unix.socket.mode", self.text("unix.socket.mode"))

    def _read_limits(self) -> None:
        self.socket_request_max_bytes = self.integer("socket.request.max.bytes")
        self.socket_send_buffer_bytes = self.integer("socket.send.buffer.bytes")
        self.socket_receive_buffer_bytes = self.integer("socket.receive.buffer.bytes")
        self.socket_listen_backlog_size = self.integer("socket.listen.backlog.size")
        self.queued_max_request_bytes = self.integer("queued.max.request.bytes")
        self.connections_max_idle_ms = self.integer("connections.max.idle.ms")
        self.max_connections = self.integer("max.connections")
        self.max_connections_per_ip = self.integer("max.connections.per.ip")
        self.max_connections_per_ip_overrides = parse_overrides(self.text("max.connections.per.ip.overrides"))
        self.max_connection_creation_rate = self.integer("max.connection.creation.rate")
        self.fetch_max_bytes = self.integer("fetch.max.bytes")
        self.max_incremental_fetch_session_cache_slots = self.integer(
            "max.incremental.fetch.session.cache.slots"
        )
        self.max_request_partition_size_limit = self.integer("max.request.partition.size.limit")
        if 0 < self.queued_max_request_bytes < self.socket_request_max_bytes:
            raise ConfigError("queued.max.request.bytes must be larger or equal to socket.request.max.bytes")

    def with_dynamic(self, texts: Mapping[str, str]) -> "BrokerConfig":
        """The same with the keys that were altered since the start; those that it has not are left out."""
        known = ((BROKER_KEYS.get(name), text) for name, text in texts.items())
        altered = {key.name: parse_value(key, text) for key, text in known if key is not None}
        return BrokerConfig(self._values | altered, self.given, self.own)

    def with_own(self, values: Mapping[str, Value], given: Mapping[str, Given]) -> "BrokerConfig":
        """The same with what one of several brokers has for itself."""
        return BrokerConfig({**self._values, **values}, {**self.given, **given})

    def get(self, name: str) -> Value:
        """The typed value of any obeyed key; KeyError for another name."""
        return self._values[name]

    def integer(self, name: str) -> int:
        """The value of a key that is a whole number."""
        value = self._values[name]
        assert isinstance(value, int), name
        return value

    def boolean(self, name: str) -> bool:
        """The value of a key that is true or false."""
        value = self._values[name]
        assert isinstance(value, bool), name
        return value

    def text(self, name: str) -> str:
        """The value of a key that is a text."""
        value = self._values[name]
        assert isinstance(value, str), name
        return value

    def optional_text(self, name: str) -> str | None:
        """The value of a key that is a text or is not set."""
        value = self._values[name]
        assert value is None or isinstance(value, str), name
        return value

    def names(self, name: str) -> tuple[str, ...]:
        """The value of a key that is a list; nothing when it is not set."""
        value = self._values[name]
        assert value is None or isinstance(value, tuple), name
        return value or ()


def load(
    file_properties: Mapping[str, str],
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
    *,
    strict: bool = False,
    default_log_dir: Callable[[], str] | None = None,
) -> tuple[BrokerConfig, list[str]]:
    """The configuration these sources give, and warnings; ConfigError, one line, when it cannot be used.

    An unknown key is a warning, with `strict` an error. `default_log_dir` is asked where data goes when
    nothing says.
    """
    given = gather(file_properties, environ or {}, overrides or {})
    own = take_own(given)
    advertised = given.get("advertised.listeners")
    if "listeners" not in given and advertised is not None and advertised.source == ENVIRONMENT:
        given["listeners"] = advertised._replace(text=_listeners_behind(advertised.text))
    values: dict[str, Value] = {name: key.default for name, key in BROKER_KEYS.items()}
    others: dict[str, Given] = {}
    for name, setting in given.items():
        if name in BROKER_KEYS:
            values[name] = read_value(BROKER_KEYS[name], setting)
        else:
            others[name] = setting
    idle = {name for name in NOT_YET_OBEYED & given.keys() if values[name] != BROKER_KEYS[name].default}
    warnings: list[str] = []
    if others:
        from tailrace.core.config_unused import OWN_UNUSED_KEYS, check_unused, missed

        warnings += check_unused(others, strict=strict)
        idle |= OWN_UNUSED_KEYS & others.keys() | missed(others)
    if idle:
        warnings.append(f"accepted and not obeyed yet: {', '.join(sorted(idle))} (LIMITS.md)")
    _check_relations(values, given)
    if values["log.dirs"] is None and default_log_dir is not None:
        values["log.dirs"] = (default_log_dir(),)
    config = BrokerConfig(values, given, own)
    if config.brokers > 1 or own:
        from tailrace.core.config_brokers import split

        split(config)  # or say now what cannot be
    check_none_locked_out(config.max_connections_per_ip, config.max_connections_per_ip_overrides)
    return config, warnings


def read_value(key: Key, setting: Given) -> Value:
    """The typed value of a setting; ConfigError, which names its place, when it is none."""
    try:
        value = parse_value(key, setting.text)
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and any(char < " " or "\ud800" <= char <= "\udfff" for char in text):
                raise ConfigError(f"configuration {key.name} holds what is no text: {ascii(text)[:80]}")
    except ConfigError as error:
        raise ConfigError(f"{error} ({setting.place})") from None
    return value


def _listeners_behind(advertised: str) -> str:
    """As Kafka's container image: a broker told only what to advertise listens there on every interface."""
    listeners = parse_listeners("advertised.listeners", tuple(part.strip() for part in advertised.split(",")))
    return ",".join(f"{name}://0.0.0.0:{port}" for name, _, port in listeners)


def _check_relations(values: dict[str, Value], given: dict[str, Given]) -> None:
    """What Kafka checks between keys, and fills from one into another."""
    if "broker.id" in given:
        if "node.id" in given and values["node.id"] != values["broker.id"]:
            raise ConfigError(
                "You must set `node.id` to the same value as `broker.id`: "
                f"{values['node.id']} and {values['broker.id']}"
            )
        given["node.id"] = given["broker.id"]
        values["node.id"] = read_value(BROKER_KEYS["node.id"], given["node.id"])
    if values["log.dirs"] is None and values["log.dir"]:
        given["log.dirs"] = given["log.dir"]
        values["log.dirs"] = values["log.dir"]
    if effective_default("retention.ms", values) == 0:
        raise ConfigError("log.retention.ms must be unlimited (-1) or, equal or greater than 1")
    roll = values["log.roll.ms"]
    if isinstance(roll, int) and roll < 1:
        raise ConfigError("log.roll.ms must be equal or greater than 1")
    jitter = values["log.roll.jitter.ms"]
    if isinstance(jitter, int) and jitter < 0:
        raise ConfigError("log.roll.jitter.ms must be equal or greater than 0")


def _octal(name: str, text: str) -> int:
    if not text or len(text) > 4 or text.strip("01234567"):
        raise ConfigError(
            f"Invalid value {text} for configuration {name}: permissions in octal, such as 0660"
        )
    return int(text, 8)


def check_protocols(listeners: tuple[Listener, ...], protocol_map: str) -> None:
    """Refuse a listener that is asked to speak TLS or SASL, rather than serve it in the clear."""
    protocols: dict[str, str] = {}
    for entry in protocol_map.split(","):
        name, colon, protocol = entry.strip().rpartition(":")
        if not colon:
            raise ConfigError(
                f"listener.security.protocol.map is made of NAME:PROTOCOL pairs, not {entry.strip()!r}"
            )
        protocols[name.strip().upper()] = protocol.strip().upper()
    for name, _, _ in listeners:
        wanted = protocols.get(name)
        if wanted is None:
            raise ConfigError(
                f"No security protocol defined for listener {name}: listener.security.protocol.map"
            )
        if wanted != "PLAINTEXT":
            raise ConfigError(f"listener {name} asks for {wanted}: only PLAINTEXT is served so far")


def effective_default(topic_key: str, broker_values: Mapping[str, Value]) -> Value:
    """The default of a topic key, from the first of its broker keys that is set."""
    for name, factor in TOPIC_SYNONYMS.get(topic_key, ()):
        value = broker_values[name]
        if value is not None:
            value = value * factor if factor != 1 and isinstance(value, int) else value
            if topic_key == "retention.ms" and isinstance(value, int) and value < 0:
                return -1
            return value
    return TOPIC_KEYS[topic_key].default


def topic_defaults(broker: BrokerConfig) -> dict[str, Value]:
    """Every topic key with the value a topic has that sets none."""
    values = {name: broker.get(name) for synonyms in TOPIC_SYNONYMS.values() for name, _ in synonyms}
    return {name: effective_default(name, values) for name in TOPIC_KEYS}


def validate_topic_config(name: str, text: str) -> Value:
    """The typed value of one topic key, or ConfigError in Kafka's words."""
    key = TOPIC_KEYS.get(name)
    if key is None:
        raise ConfigError(f"Unknown topic config name: {name}")
    value = parse_value(key, text)
    if name == "remote.storage.enable" and value:
        raise ConfigError(
            "Tiered Storage functionality is disabled in the broker. "
            "Topic cannot be configured with remote log storage."
        )
    return value


def validate_topic_configs(overrides: Mapping[str, str]) -> dict[str, Value]:
    """Typed values of a topic's own keys, each checked and then against one another."""
    values = {name: validate_topic_config(name, text) for name, text in overrides.items()}
    shortest, longest = values.get("min.compaction.lag.ms"), values.get("max.compaction.lag.ms")
    if isinstance(shortest, int) and isinstance(longest, int) and shortest > longest:
        raise ConfigError(
            f"conflict topic config setting min.compaction.lag.ms ({shortest})"
            f" > max.compaction.lag.ms ({longest})"
        )
    return values


def effective_topic_config(overrides: Mapping[str, str], broker: BrokerConfig) -> dict[str, Value]:
    """Every topic key: the topic's own value, else the broker's, else Kafka's."""
    values = topic_defaults(broker)
    values.update(validate_topic_configs(overrides))
    if values["internal.segment.bytes"] is not None:
        values["segment.bytes"] = values["internal.segment.bytes"]
    return values


def log_config(overrides: Mapping[str, str], broker: BrokerConfig) -> LogConfig:
    """What the log of a topic with these keys is told: its own, and dynamic ones of the broker."""
    keys = dict(overrides)
    altered = keys.pop(PRODUCER_EXPIRATION, None)
    values = effective_topic_config(keys, broker)
    told: dict[str, Value] = {
        "max_decompressed_message_bytes": broker.integer("max.decompressed.message.bytes"),
        "producer_id_expiration_ms": broker.producer_id_expiration_ms
        if altered is None
        else parse_value(BROKER_KEYS[PRODUCER_EXPIRATION], altered),
    }
    for name, value in values.items():
        field = name.replace(".", "_")
        if field in LogConfig.__struct_fields__:
            told[field] = value
    return msgspec.convert(told, LogConfig)


def min_insync_replicas(overrides: Mapping[str, str], broker: BrokerConfig) -> int:
    """How many have to be in sync for acks=all, by the same keys."""
    keys = {key: text for key, text in overrides.items() if key == MIN_INSYNC}
    return int(str(effective_topic_config(keys, broker)[MIN_INSYNC]))


# Topic keys that something reads: the log its settings, its leader one, elections and moves theirs, and the
# two that only decide what is accepted.
OBEYED_TOPIC_KEYS = frozenset(
    {
        *(name for name in TOPIC_KEYS if name.replace(".", "_") in LogConfig.__struct_fields__),
        MIN_INSYNC,
        *THROTTLED,
        "internal.segment.bytes",
        "remote.storage.enable",
        UNCLEAN_ELECTION,
    }
)
# Of the others, values beside Kafka's default that ask for what happens anyway: segments are kept.
_AS_IT_IS: dict[str, Value] = {
    "cleanup.policy": (),
    "retention.ms": -1,
}
# Of those, the keys that may be altered all the same, as they may be given when a topic is made: without them
# clients that cannot be changed do not work, and with them a topic only keeps more than it must.
ACCEPTED_IDLE = frozenset(
    {
        "cleanup.policy",
        "delete.retention.ms",
        "max.compaction.lag.ms",
        "min.cleanable.dirty.ratio",
        "min.compaction.lag.ms",
        "retention.bytes",
        "retention.ms",
    }
)


def without_effect(overrides: Mapping[str, str]) -> list[str]:
    """Those of a topic's own keys, as `key=value`, that ask for something nothing does yet."""
    idle: list[str] = []
    for name, value in validate_topic_configs(overrides).items():
        if name in OBEYED_TOPIC_KEYS or value == TOPIC_KEYS[name].default:
            continue
        if name not in _AS_IT_IS or value != _AS_IT_IS[name]:
            idle.append(f"{name}={value_text(value)}")
    return idle
