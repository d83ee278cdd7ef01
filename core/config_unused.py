"""Kafka's broker keys that are accepted and not obeyed, by type: an ill-typed value is refused all the same.

Ours that belong to later parts (HTTP, dead letters) are at the end. Imported only when a file, the
environment or a request names a key that core/config_keys.py does not hold.
"""

from collections.abc import Mapping

from tailrace.core.config_keys import (
    BOOLEAN,
    BROKER_KEYS,
    CLASS,
    DOUBLE,
    INT,
    LIST,
    LONG,
    PASSWORD,
    SHORT,
    STRING,
    ConfigError,
    Value,
    parse_kind,
)
from tailrace.core.config_sources import Given

_INT = """
add.partitions.to.txn.retry.backoff.max.ms add.partitions.to.txn.retry.backoff.ms
alter.log.dirs.replication.quota.window.num alter.log.dirs.replication.quota.window.size.seconds
background.threads broker.heartbeat.interval.ms broker.session.timeout.ms
connection.failed.authentication.delay.ms controller.quorum.append.linger.ms
controller.quorum.election.backoff.max.ms
controller.quorum.retry.backoff.ms controller.quota.window.num controller.quota.window.size.seconds
controller.socket.timeout.ms delete.records.purgatory.purge.interval.requests
fetch.purgatory.purge.interval.requests group.consumer.assignment.interval.ms
group.consumer.max.assignment.interval.ms
group.consumer.min.assignment.interval.ms
group.consumer.regex.refresh.interval.ms
group.coordinator.append.linger.ms group.coordinator.background.threads
group.coordinator.cached.buffer.max.bytes group.coordinator.threads
group.share.assignment.interval.ms group.share.delivery.count.limit group.share.heartbeat.interval.ms
group.share.initialize.retry.interval.ms group.share.max.assignment.interval.ms
group.share.max.delivery.count.limit group.share.max.heartbeat.interval.ms
group.share.max.partition.max.record.locks group.share.max.record.lock.duration.ms
group.share.max.session.timeout.ms group.share.max.share.sessions group.share.max.size
group.share.min.assignment.interval.ms group.share.min.delivery.count.limit
group.share.min.heartbeat.interval.ms group.share.min.partition.max.record.locks
group.share.min.record.lock.duration.ms group.share.min.session.timeout.ms
group.share.partition.max.record.locks group.share.record.lock.duration.ms group.share.session.timeout.ms
group.streams.assignment.interval.ms group.streams.heartbeat.interval.ms
group.streams.initial.rebalance.delay.ms group.streams.max.assignment.interval.ms
group.streams.max.heartbeat.interval.ms group.streams.max.session.timeout.ms group.streams.max.size
group.streams.max.standby.replicas group.streams.min.assignment.interval.ms
group.streams.min.heartbeat.interval.ms group.streams.min.session.timeout.ms
group.streams.num.standby.replicas group.streams.session.timeout.ms
initial.broker.registration.timeout.ms internal.metadata.log.segment.bytes
internal.metadata.max.batch.size.in.bytes kafka.metrics.polling.interval.secs log.cleaner.io.buffer.size
log.cleaner.threads
metadata.log.segment.bytes metadata.max.idle.interval.ms metrics.num.samples num.io.threads
num.network.threads num.recovery.threads.per.data.dir num.replica.alter.log.dirs.threads
num.replica.fetchers offsets.commit.timeout.ms offsets.load.buffer.size
offsets.topic.compression.codec
producer.id.expiration.check.interval.ms
producer.purgatory.purge.interval.requests queued.max.requests quota.window.num
quota.window.size.seconds
remote.fetch.max.wait.ms remote.log.manager.copier.thread.pool.size
remote.log.manager.copy.quota.window.num remote.log.manager.copy.quota.window.size.seconds
remote.log.manager.expiration.thread.pool.size remote.log.manager.fetch.quota.window.num
remote.log.manager.fetch.quota.window.size.seconds remote.log.manager.follower.thread.pool.size
remote.log.manager.thread.pool.size remote.log.metadata.custom.metadata.max.bytes
remote.log.reader.max.pending.tasks remote.log.reader.threads replica.fetch.backoff.ms
replica.fetch.max.bytes replica.fetch.min.bytes replica.fetch.response.max.bytes
replica.fetch.wait.max.ms replica.socket.receive.buffer.bytes replica.socket.timeout.ms
replication.quota.window.num replication.quota.window.size.seconds request.timeout.ms
sasl.login.connect.timeout.ms sasl.login.read.timeout.ms sasl.oauthbearer.assertion.claim.exp.seconds
sasl.oauthbearer.assertion.claim.nbf.seconds sasl.oauthbearer.clock.skew.seconds
sasl.server.max.receive.size share.coordinator.append.linger.ms share.coordinator.cached.buffer.max.bytes
share.coordinator.cold.partition.snapshot.interval.ms share.coordinator.load.buffer.size
share.coordinator.snapshot.update.records.per.snapshot share.coordinator.state.topic.compression.codec
share.coordinator.state.topic.num.partitions share.coordinator.state.topic.prune.interval.ms
share.coordinator.state.topic.segment.bytes share.coordinator.threads share.coordinator.write.timeout.ms
share.fetch.purgatory.purge.interval.requests telemetry.max.bytes
transaction.abort.timed.out.transaction.cleanup.interval.ms transaction.max.timeout.ms
transaction.remove.expired.transaction.cleanup.interval.ms transaction.state.log.load.buffer.size
transaction.state.log.min.isr transaction.state.log.num.partitions transaction.state.log.segment.bytes
transactional.id.expiration.ms
"""
_SHORT = """
sasl.login.refresh.buffer.seconds sasl.login.refresh.min.period.seconds
share.coordinator.state.topic.min.isr share.coordinator.state.topic.replication.factor
transaction.state.log.replication.factor
"""
_LONG = """
connections.max.reauth.ms controller.performance.always.log.threshold.ms
controller.performance.sample.period.ms delegation.token.expiry.check.interval.ms
delegation.token.expiry.time.ms delegation.token.max.lifetime.ms internal.metadata.delete.delay.millis
log.cleaner.backoff.ms log.cleaner.dedupe.buffer.size
log.dir.failure.timeout.ms log.initial.task.delay.ms log.retention.check.interval.ms
metadata.log.segment.ms metadata.max.retention.bytes metadata.max.retention.ms metrics.sample.window.ms
remote.list.offsets.request.timeout.ms
remote.log.index.file.cache.total.size.bytes remote.log.index.file.cache.ttl.ms
remote.log.manager.copy.max.bytes.per.second remote.log.manager.fetch.max.bytes.per.second
remote.log.manager.task.interval.ms remote.log.manager.task.retry.backoff.max.ms
remote.log.manager.task.retry.backoff.ms sasl.kerberos.min.time.before.relogin
sasl.login.retry.backoff.max.ms sasl.login.retry.backoff.ms sasl.oauthbearer.jwks.endpoint.refresh.ms
sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms sasl.oauthbearer.jwks.endpoint.retry.backoff.ms
server.max.startup.time.ms socket.connection.setup.timeout.max.ms socket.connection.setup.timeout.ms
"""
_DOUBLE = """
log.cleaner.io.buffer.load.factor log.cleaner.io.max.bytes.per.second
remote.log.manager.task.retry.jitter sasl.kerberos.ticket.renew.jitter
sasl.kerberos.ticket.renew.window.factor sasl.login.refresh.window.factor
sasl.login.refresh.window.jitter
"""
_BOOLEAN = """
allow.everyone.if.no.acl.found follower.fetch.last.tiered.offset.enable log.cleaner.enable
remote.log.storage.system.enable sasl.oauthbearer.assertion.claim.jti.include ssl.allow.dn.changes
ssl.allow.san.changes transaction.partition.verification.enable transaction.two.phase.commit.enable
unstable.api.versions.enable unstable.feature.versions.enable
"""
_STRING = """
authorizer.class.name group.share.persister.class.name
inter.broker.listener.name metrics.recording.level
remote.log.metadata.manager.class.name remote.log.metadata.manager.class.path
remote.log.metadata.manager.impl.prefix remote.log.metadata.manager.listener.name
remote.log.storage.manager.class.name remote.log.storage.manager.class.path
remote.log.storage.manager.impl.prefix sasl.kerberos.kinit.cmd
sasl.kerberos.service.name sasl.mechanism.controller.protocol sasl.mechanism.inter.broker.protocol
sasl.oauthbearer.assertion.algorithm sasl.oauthbearer.assertion.claim.aud
sasl.oauthbearer.assertion.claim.iss sasl.oauthbearer.assertion.claim.sub sasl.oauthbearer.assertion.file
sasl.oauthbearer.assertion.private.key.file sasl.oauthbearer.assertion.template.file
sasl.oauthbearer.client.credentials.client.id sasl.oauthbearer.expected.issuer
sasl.oauthbearer.jwks.endpoint.url sasl.oauthbearer.scope sasl.oauthbearer.scope.claim.name
sasl.oauthbearer.sub.claim.name sasl.oauthbearer.token.endpoint.url security.inter.broker.protocol
security.providers ssl.client.auth ssl.endpoint.identification.algorithm ssl.keymanager.algorithm
ssl.keystore.location ssl.keystore.type ssl.principal.mapping.rules ssl.protocol ssl.provider
ssl.secure.random.implementation ssl.trustmanager.algorithm ssl.truststore.location ssl.truststore.type
super.users
"""
_LIST = """
config.providers controller.quorum.bootstrap.servers controller.quorum.voters cordoned.log.dirs
early.start.listeners group.coordinator.rebalance.protocols
group.share.assignors kafka.metrics.reporters metric.reporters process.roles sasl.enabled.mechanisms
sasl.kerberos.principal.to.local.rules sasl.oauthbearer.expected.audience ssl.cipher.suites
ssl.enabled.protocols
"""
_PASSWORD = """
delegation.token.secret.key sasl.jaas.config sasl.oauthbearer.assertion.private.key.passphrase
sasl.oauthbearer.client.credentials.client.secret ssl.key.password ssl.keystore.certificate.chain
ssl.keystore.key ssl.keystore.password ssl.truststore.certificates ssl.truststore.password
"""
_CLASS = """
alter.config.policy.class.name client.quota.callback.class create.topic.policy.class.name
principal.builder.class sasl.client.callback.handler.class sasl.login.callback.handler.class
sasl.login.class sasl.oauthbearer.jwt.retriever.class sasl.oauthbearer.jwt.validator.class
sasl.server.callback.handler.class ssl.engine.factory.class
"""

_OWN_STRING = "dlq.suffix http.listeners metrics.naming profile"
_OWN_BOOLEAN = "console.enable schema.registry.enable shm.enable"
_OWN_INT = "dlq.max.retries"

UNUSED_KEYS: dict[str, str] = {
    name: kind
    for kind, names in (
        (INT, _INT),
        (SHORT, _SHORT),
        (LONG, _LONG),
        (DOUBLE, _DOUBLE),
        (BOOLEAN, _BOOLEAN),
        (STRING, _STRING),
        (LIST, _LIST),
        (PASSWORD, _PASSWORD),
        (CLASS, _CLASS),
        (STRING, _OWN_STRING),
        (BOOLEAN, _OWN_BOOLEAN),
        (INT, _OWN_INT),
    )
    for name in names.split()
}

# Ours whose part is not there yet: whoever sets one is told so.
OWN_UNUSED_KEYS = frozenset(f"{_OWN_STRING} {_OWN_BOOLEAN} {_OWN_INT}".split())

# Keys whose tail is free: of plug-ins, and per listener.
UNUSED_PREFIXES = ("listener.name.", "config.providers.", "rlmm.config.", "rsm.config.", "metrics.context.")

# Whoever sets one of these expects to be protected, but for the value beside it; not to be obeyed deserves a
# word.
PROTECTING_KEYS = {
    "authorizer.class.name": "",
    "security.inter.broker.protocol": "PLAINTEXT",
    "ssl.client.auth": "none",
    "super.users": "",
    "principal.builder.class": "",
}

# What an operator sets for its effect, which it has not here, with Kafka's default: any other value is worth
# a word.
MISSED_KEYS: dict[str, Value] = {
    "controller.quorum.append.linger.ms": 25,
    "controller.quorum.election.backoff.max.ms": 1000,
    "cordoned.log.dirs": (),
    "metadata.log.segment.bytes": 1_073_741_824,
    "metadata.log.segment.ms": 604_800_000,
    "metadata.max.retention.bytes": 104_857_600,
    "metadata.max.retention.ms": 604_800_000,
}

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_ROLES = ("broker", "controller")


def missed(given: Mapping[str, Given]) -> set[str]:
    """Those of these keys, which are sound, that ask for what is not done."""
    return {
        name
        for name, default in MISSED_KEYS.items()
        if name in given and parse_kind(name, UNUSED_KEYS[name], given[name].text) != default
    }


def check_unused(given: Mapping[str, Given], *, strict: bool) -> list[str]:
    """Warnings about keys that are not obeyed; ConfigError for an ill-typed one, and for an unknown one when
    `strict`.
    """
    warnings: list[str] = []
    unknown: list[tuple[str, str]] = []
    for name, setting in given.items():
        if name in UNUSED_KEYS:
            try:
                _check_value(name, setting.text)
            except ConfigError as error:
                raise ConfigError(f"{error} ({setting.place})") from None
            if name in PROTECTING_KEYS and setting.text.strip() != PROTECTING_KEYS[name]:
                warnings.append(f"{name} is not obeyed: this broker protects nothing by it yet")
        elif not name.startswith(UNUSED_PREFIXES):
            shown = name if name and _PLAIN.issuperset(name) else ascii(name)[:80]
            unknown.append((f"unknown configuration {shown} ({setting.place})", _hint(name)))
    if unknown and strict:
        raise ConfigError("--strict: " + ", ".join(what + hint for what, hint in unknown))
    warnings += [f"{what} is ignored{hint}" for what, hint in unknown]
    return warnings


def _hint(name: str) -> str:
    """The nearest key that is known, if one is near."""
    import difflib

    close = difflib.get_close_matches(name, [*BROKER_KEYS, *UNUSED_KEYS], n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _check_value(name: str, text: str) -> None:
    value = parse_kind(name, UNUSED_KEYS[name], text)
    if name == "process.roles" and isinstance(value, tuple):
        for role in value:
            if role not in _ROLES:
                raise ConfigError(
                    f"Invalid value {ascii(role)[:80]} for configuration {name}: "
                    f"String must be one of: {', '.join(_ROLES)}"
                )
        if "broker" not in value:
            raise ConfigError(
                f"{name} lacks broker: a controller alone is not served; every node is broker and controller"
            )
