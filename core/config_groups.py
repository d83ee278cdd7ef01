"""The configs of single groups, which win over the broker's keys of the same meaning."""

from collections.abc import Mapping

from tailrace.core.config import BrokerConfig, ConfigError
from tailrace.core.config_keys import BROKER_KEYS, Key, parse_value

HEARTBEAT, SESSION = "consumer.heartbeat.interval.ms", "consumer.session.timeout.ms"

# The broker key that is the default, those that bound it, and the group's own line.
_PREFIX = "group."
GROUP_CONFIGS: dict[str, Key] = {
    name: BROKER_KEYS[_PREFIX + name]._replace(name=name) for name in (HEARTBEAT, SESSION)
}


def broker_key_of(name: str) -> str:
    """The broker key that gives a group config its default."""
    return _PREFIX + name


def validate_group_configs(overrides: Mapping[str, str], broker: BrokerConfig) -> dict[str, int]:
    """The whole set of a group's configs, defaults included; ConfigError in Kafka's words."""
    values: dict[str, int] = {}
    for name, text in overrides.items():
        key = GROUP_CONFIGS.get(name)
        if key is None:
            raise ConfigError(f"Unknown group config name: {name}")
        value = parse_value(key, text)
        assert isinstance(value, int)
        values[name] = value
    for name in GROUP_CONFIGS:
        values.setdefault(name, broker.integer(broker_key_of(name)))
    for name, bound in ((HEARTBEAT, "heartbeat.interval.ms"), (SESSION, "session.timeout.ms")):
        least, most = f"group.consumer.min.{bound}", f"group.consumer.max.{bound}"
        if values[name] < broker.integer(least):
            raise ConfigError(f"{name} must be greater than or equal to {least}")
        if values[name] > broker.integer(most):
            raise ConfigError(f"{name} must be less than or equal to {most}")
    if values[SESSION] <= values[HEARTBEAT]:
        raise ConfigError(f"{SESSION} must be greater than {HEARTBEAT}")
    return values
