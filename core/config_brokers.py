"""Several brokers on one host: what each of them is configured with.

All have the keys that are given. Of its own a broker with index b (counted from 0) has:

    node.id                            the first one's plus b
    listeners, advertised.listeners    each port plus b; port 0 stays any free one
    log.dirs, metadata.log.dir         broker-<id> in each of them
    unix.socket.path                   from the second on with .<id> after it
    any key                            what `broker.<id>.<key>` says

A single broker has nothing of its own but what `broker.<id>.<key>` says.
"""

from collections.abc import Mapping

from tailrace.core.config import BrokerConfig, read_value
from tailrace.core.config_keys import BROKER_KEYS, ConfigError, Value
from tailrace.core.config_sources import Given
from tailrace.core.listeners import shifted

# Keys of the run, of which there is one for all.
COMMON = frozenset(
    {
        *("broker.id", "brokers", "cluster.id", "node.id", "run.dir", "shm.ring.bytes"),
        *("supervisor.restart.backoff.ms", "supervisor.stall.timeout.ms", "workers.max"),
    }
)


def split(config: BrokerConfig) -> tuple[BrokerConfig, ...]:
    """The configuration of each broker; ConfigError when two of them cannot be together."""
    ids = range(config.node_id, config.node_id + config.brokers)
    for stranger in sorted(config.own.keys() - set(ids)):
        key = min(config.own[stranger])
        raise ConfigError(f"broker.{stranger}.{key}: there is no broker {stranger}, {_span(ids)}")
    if config.brokers == 1 and not config.own:
        return (config,)
    configs = tuple(_of_broker(config, index) for index in range(config.brokers))
    _check_ports(configs)
    return configs


def own_directory(path: str, node_id: int) -> str:
    """The directory of one of several brokers in one that is given for all."""
    return f"{path.rstrip('/')}/broker-{node_id}"


def _of_broker(config: BrokerConfig, index: int) -> BrokerConfig:
    node_id = config.node_id + index
    values: dict[str, Value] = {} if config.brokers == 1 else _derived(config, node_id, index)
    own = config.own.get(node_id, {})
    values.update(_overrides(own, node_id))
    return config.with_own(values, {**own})


def _derived(config: BrokerConfig, node_id: int, index: int) -> dict[str, Value]:
    values: dict[str, Value] = {"node.id": node_id}
    for name in ("listeners", "advertised.listeners"):
        if config.get(name) is not None:
            values[name] = shifted(config.names(name), index)
    values["log.dirs"] = tuple(own_directory(path, node_id) for path in config.log_dirs)
    metadata_dir = config.optional_text("metadata.log.dir")
    if metadata_dir:
        values["metadata.log.dir"] = own_directory(metadata_dir, node_id)
    if config.unix_socket_path and index:
        values["unix.socket.path"] = f"{config.unix_socket_path}.{node_id}"
    return values


def _overrides(own: Mapping[str, Given], node_id: int) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name, setting in own.items():
        if name not in BROKER_KEYS:
            raise ConfigError(f"broker.{node_id}.{name}: unknown configuration {name!r} ({setting.place})")
        if name in COMMON:
            said = f"broker.{node_id}.{name}: {name} is set for all brokers, not one ({setting.place})"
            raise ConfigError(said)
        values[name] = read_value(BROKER_KEYS[name], setting)
    if values.get("log.dir") and "log.dirs" not in values:
        values["log.dirs"] = values["log.dir"]
    if "advertised.listeners" in values and "advertised.mode" not in values:
        values["advertised.mode"] = BROKER_KEYS["advertised.mode"].default
    return values


def _check_ports(configs: tuple[BrokerConfig, ...]) -> None:
    taken: dict[tuple[str, int], int] = {}
    for config in configs:
        for listener in config.listeners:
            place = (listener.host, listener.port)
            other = taken.setdefault(place, config.node_id)
            if listener.port and other != config.node_id:
                raise ConfigError(
                    f"brokers {other} and {config.node_id} would both listen on port {listener.port}: "
                    f"set broker.{config.node_id}.listeners"
                )


def _span(ids: range) -> str:
    return f"ids are {ids[0]} to {ids[-1]}" if len(ids) > 1 else f"the only id is {ids[0]}"
