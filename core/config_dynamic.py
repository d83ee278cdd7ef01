"""Broker keys that can be altered while the broker runs.

Kafka alters those of KAFKA_DYNAMIC; here only OBEYED_LIVE can be, the others are refused. Two sets of them
are kept in the metadata log: of the whole cluster, and of one broker, which wins; both win over static keys.
"""

from collections.abc import Mapping

from tailrace.core.config_keys import (
    BROKER_KEYS,
    LONG,
    MIN_INSYNC,
    PRODUCER_EXPIRATION,
    TOPIC_KEYS,
    TOPIC_SYNONYMS,
    UNCLEAN_ELECTION,
    ConfigError,
    Key,
    parse_value,
)
from tailrace.core.connection_quotas import OVERRIDES, PER_ADDRESS, parse_overrides
from tailrace.core.log.log_config import LogConfig

_OTHERS = """
background.threads config.providers cordoned.log.dirs follower.fetch.last.tiered.offset.enable
group.consumer.assignment.interval.ms group.coordinator.cached.buffer.max.bytes
group.share.assignment.interval.ms group.streams.assignment.interval.ms listener.security.protocol.map
listeners log.cleaner.backoff.ms log.cleaner.dedupe.buffer.size log.cleaner.io.buffer.load.factor
log.cleaner.io.buffer.size log.cleaner.io.max.bytes.per.second log.cleaner.threads
max.connection.creation.rate max.connections max.connections.per.ip max.connections.per.ip.overrides
metric.reporters num.io.threads num.network.threads num.recovery.threads.per.data.dir num.replica.fetchers
principal.builder.class producer.id.expiration.ms remote.fetch.max.wait.ms
remote.list.offsets.request.timeout.ms remote.log.index.file.cache.total.size.bytes
remote.log.manager.copier.thread.pool.size remote.log.manager.copy.max.bytes.per.second
remote.log.manager.expiration.thread.pool.size remote.log.manager.fetch.max.bytes.per.second
remote.log.manager.follower.thread.pool.size remote.log.reader.threads sasl.enabled.mechanisms
sasl.jaas.config sasl.kerberos.kinit.cmd sasl.kerberos.min.time.before.relogin
sasl.kerberos.principal.to.local.rules sasl.kerberos.service.name sasl.kerberos.ticket.renew.jitter
sasl.kerberos.ticket.renew.window.factor sasl.login.refresh.buffer.seconds
sasl.login.refresh.min.period.seconds sasl.login.refresh.window.factor sasl.login.refresh.window.jitter
sasl.mechanism.inter.broker.protocol share.coordinator.cached.buffer.max.bytes ssl.cipher.suites
ssl.client.auth ssl.enabled.protocols ssl.endpoint.identification.algorithm ssl.engine.factory.class
ssl.key.password ssl.keymanager.algorithm ssl.keystore.certificate.chain ssl.keystore.key
ssl.keystore.location ssl.keystore.password ssl.keystore.type ssl.protocol ssl.provider
ssl.secure.random.implementation ssl.trustmanager.algorithm ssl.truststore.certificates
ssl.truststore.location ssl.truststore.password ssl.truststore.type
transaction.partition.verification.enable
"""

# The first broker key of each topic key, and the others (a test compares them with Kafka's own).
KAFKA_DYNAMIC = frozenset((*(synonyms[0][0] for synonyms in TOPIC_SYNONYMS.values()), *_OTHERS.split()))

# What the replicas of all topics without a key of their own are told at once.
_TOPIC_KEY_OF = {
    synonyms[0][0]: topic_key
    for topic_key, synonyms in TOPIC_SYNONYMS.items()
    if topic_key == MIN_INSYNC or topic_key.replace(".", "_") in LogConfig.__struct_fields__
}

# Rates that are no static keys, only dynamic ones of a broker: bytes a second.
LEADER_RATE = "leader.replication.throttled.rate"
FOLLOWER_RATE = "follower.replication.throttled.rate"
ALTER_DIRS_RATE = "replica.alter.log.dirs.io.max.bytes.per.second"
_RATE_DOC = "bytes a second of all throttled replicas together, while they are not in sync"
RATES = {name: Key(name, LONG, None, 0, None, _RATE_DOC) for name in (LEADER_RATE, FOLLOWER_RATE)}
RATES[ALTER_DIRS_RATE] = Key(
    ALTER_DIRS_RATE, LONG, None, 0, None, "bytes a second of all replicas that move to other directories"
)

OBEYED_LIVE = frozenset(
    (
        *_TOPIC_KEY_OF,
        PRODUCER_EXPIRATION,
        UNCLEAN_ELECTION,
        "max.connection.creation.rate",
        "max.connections",
        PER_ADDRESS,
        OVERRIDES,
    )
)


def kind_of(name: str) -> str | None:
    """The type of a broker key, obeyed or only accepted; None for one that nobody knows."""
    key = BROKER_KEYS.get(name) or RATES.get(name)
    if key is not None:
        return key.kind
    from tailrace.core.config_unused import UNUSED_KEYS  # seldom needed

    return UNUSED_KEYS.get(name)


def check_dynamic(name: str, text: str) -> None:
    """ConfigError for a value of an OBEYED_LIVE key that it, or the topic key it is the default of, cannot
    have.
    """
    if name in RATES:
        parse_value(RATES[name], text)
        return
    value = parse_value(BROKER_KEYS[name], text)
    if name == OVERRIDES:
        parse_overrides(text)
    elif name == "max.connection.creation.rate" and value == 0:  # which a file may hold
        raise ConfigError(f"Invalid value 0 for configuration {name}: Invalid dynamic configuration")
    if name in _TOPIC_KEY_OF:
        parse_value(TOPIC_KEYS[_TOPIC_KEY_OF[name]]._replace(name=name), text)


def as_log_keys(dynamic: Mapping[str, str]) -> dict[str, str]:
    """Those of the dynamic broker keys that logs obey: defaults of topic keys under the topic's name."""
    told = {_TOPIC_KEY_OF[name]: text for name, text in dynamic.items() if name in _TOPIC_KEY_OF}
    told.update((name, text) for name, text in dynamic.items() if name == PRODUCER_EXPIRATION)
    return told
