"""AlterConfigs and IncrementalAlterConfigs: request + image in, records + results out.

The checks, their order, codes and sentences are those of Kafka's broker and controller. Beyond them: what
nothing obeys yet is refused, but for the topic keys of ACCEPTED_IDLE, which clients set come what may.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from tailrace.core import errors
from tailrace.core.config import (
    ACCEPTED_IDLE,
    BrokerConfig,
    ConfigError,
    topic_defaults,
    validate_topic_configs,
    without_effect,
)
from tailrace.core.config_dynamic import (
    KAFKA_DYNAMIC,
    OBEYED_LIVE,
    RATES,
    as_log_keys,
    check_dynamic,
    kind_of,
)
from tailrace.core.config_groups import validate_group_configs
from tailrace.core.config_keys import BROKER_KEYS, LIST, TOPIC_KEYS, value_text
from tailrace.core.connection_quotas import check_none_locked_out
from tailrace.core.errors import KafkaError
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import (
    RESOURCE_BROKER,
    RESOURCE_GROUP,
    RESOURCE_TOPIC,
    ConfigRecord,
    Record,
)
from tailrace.core.metadata.requests import (
    APPEND,
    DELETE,
    SET,
    SUBTRACT,
    ConfigChange,
    ConfigResult,
    ResourceChange,
)
from tailrace.core.metadata.topics import check_topic_name

RESOURCE_BROKER_LOGGER = 8
RESOURCE_CLIENT_METRICS = 16
VALUE_LENGTH_MAX = 32767

Resource = tuple[int, str]


class Alteration(msgspec.Struct, kw_only=True, frozen=True):
    """Records to commit as one batch, the answer, one result a resource, and the resources that change."""

    records: list[Record]
    results: list[ConfigResult]
    changed: list[Resource]


def told_configs(image: MetadataImage, topic: str, node_id: int) -> dict[str, str]:
    """What the logs of a topic are told: its own keys over the dynamic ones of this broker and of all."""
    of_all = image.configs.get((RESOURCE_BROKER, ""), {})
    of_broker = image.configs.get((RESOURCE_BROKER, str(node_id)), {})
    return as_log_keys({**of_all, **of_broker}) | image.topic_configs(topic)


def alter_configs(
    image: MetadataImage,
    resources: Sequence[ResourceChange],
    broker: BrokerConfig,
    node_id: int,
    *,
    replaces_all: bool,
) -> Alteration:
    """Decide about every resource by itself. `replaces_all`: keys that are not named are removed, as
    AlterConfigs does; IncrementalAlterConfigs only changes what it names.
    """
    times = Counter((resource.resource_type, resource.name) for resource in resources)
    records: list[Record] = []
    results: list[ConfigResult] = []
    changed: list[Resource] = []
    for resource in resources:
        key = (resource.resource_type, resource.name)
        try:
            if times[key] > 1:
                raise _invalid("Each resource must appear at most once.")
            _check_form(resource)
            altered = _alter(image, resource, broker, node_id, replaces_all)
        except KafkaError as error:
            results.append(ConfigResult(error_code=error.code, error_message=error.message))
            continue
        results.append(ConfigResult())
        if altered:
            records += altered
            changed.append(key)
    return Alteration(records=records, results=results, changed=changed)


def _invalid(message: str) -> KafkaError:
    return KafkaError(errors.INVALID_REQUEST, message)


def _refused(message: str) -> KafkaError:
    return KafkaError(errors.INVALID_CONFIG, message)


def _check_form(resource: ResourceChange) -> None:
    keys = [change.key for change in resource.changes]
    if len(set(keys)) != len(keys):
        raise _invalid("Error due to duplicate config keys")
    nulls = [change.key for change in resource.changes if change.operation != DELETE and change.value is None]
    if nulls:
        raise _invalid(f"Null value not supported for : {', '.join(nulls)}")
    for change in resource.changes:
        if change.operation not in (SET, DELETE, APPEND, SUBTRACT):
            raise _invalid(f"Unknown operations type {change.operation}")


def _alter(
    image: MetadataImage, resource: ResourceChange, broker: BrokerConfig, node_id: int, replaces_all: bool
) -> list[Record]:
    """The records of one resource's change; KafkaError when it is refused."""
    key = (resource.resource_type, resource.name)
    now: Mapping[str, str] = image.configs.get(key, {})
    kind = resource.resource_type
    if kind == RESOURCE_TOPIC:
        after = _after(resource, now, _topic_splitter(broker), replaces_all)
        _check_topic(image, resource.name, now, after)
    elif kind == RESOURCE_BROKER:
        _check_broker_name(resource.name, node_id)
        after = _after(resource, now, _broker_splitter(broker), replaces_all)
        of_all = image.configs.get((RESOURCE_BROKER, ""), {}) if resource.name else {}
        _check_broker(now, after, broker.with_dynamic(of_all))
    elif kind == RESOURCE_GROUP:
        after = _after(resource, now, _refuse_parts, replaces_all)
        _check_group(resource.name, now, after, broker)
    elif kind == RESOURCE_BROKER_LOGGER:
        raise _invalid("There are no loggers whose level could be altered.")
    elif kind == RESOURCE_CLIENT_METRICS:
        raise _invalid("Client metrics are not offered.")
    else:
        raise _invalid(f"Unknown resource type {kind}")
    return [
        ConfigRecord(resource_type=key[0], name=key[1], key=name, value=after.get(name))
        for name in (*after, *(name for name in now if name not in after))
        if after.get(name) != now.get(name)
    ]


Splitter = Callable[[ConfigChange], str]
"""The value that parts are added to or taken from when none is set; KafkaError for a key without parts."""


def _after(
    resource: ResourceChange, now: Mapping[str, str], inherited: Splitter, replaces_all: bool
) -> dict[str, str]:
    """All keys that the resource has once it is changed."""
    after = {} if replaces_all else dict(now)
    for change in resource.changes:
        value = change.value or ""
        if change.operation == DELETE:
            after.pop(change.key, None)
        elif change.operation == SET:
            after[change.key] = value
        else:
            text = inherited(change)
            parts = list(filter(None, now.get(change.key, text).split(",")))
            if change.operation == APPEND:
                parts += [part for part in value.split(",") if part not in parts]
            else:
                parts = [part for part in parts if part not in value.split(",")]
            after[change.key] = ",".join(parts)
    return after


def _topic_splitter(broker: BrokerConfig) -> Splitter:
    def inherited(change: ConfigChange) -> str:
        key = TOPIC_KEYS.get(change.key)
        if key is None or key.kind != LIST:
            doing = "APPEND" if change.operation == APPEND else "SUBTRACT"
            raise _refused(f"Can't {doing} to key {change.key} because its type is not LIST.")
        return value_text(topic_defaults(broker)[change.key]) or ""

    return inherited


def _broker_splitter(broker: BrokerConfig) -> Splitter:
    def inherited(change: ConfigChange) -> str:
        kind = kind_of(change.key)
        if kind is None:
            raise _refused(f"Unknown config name: {change.key}")
        if kind != LIST:
            doing = "append" if change.operation == APPEND else "subtract"
            raise _refused(f"Config value {doing} is not allowed for config key: {change.key}")
        return (value_text(broker.get(change.key)) or "") if change.key in BROKER_KEYS else ""

    return inherited


def _refuse_parts(change: ConfigChange) -> str:
    doing = "APPEND" if change.operation == APPEND else "SUBTRACT"
    raise _refused(f"Can't {doing} to key {change.key} because its type is not LIST.")


def _check_lengths(now: Mapping[str, str], after: Mapping[str, str]) -> None:
    if any(len(text) > VALUE_LENGTH_MAX and now.get(key) != text for key, text in after.items()):
        raise _refused(
            "The configuration value cannot be added because it exceeds the maximum value size of "
            f"{VALUE_LENGTH_MAX} bytes."
        )


def _check_topic(image: MetadataImage, name: str, now: Mapping[str, str], after: Mapping[str, str]) -> None:
    _check_lengths(now, after)
    if not name:
        raise _invalid("Default topic resources are not allowed.")
    check_topic_name(name)
    try:
        validate_topic_configs(after)
    except ConfigError as error:
        raise _refused(str(error)) from error
    if name not in image.topics_by_name:
        raise KafkaError(errors.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist.")
    new = {key: text for key, text in after.items() if now.get(key) != text and key not in ACCEPTED_IDLE}
    idle = without_effect(new)
    if idle:
        raise _refused(f"Nothing obeys this yet, so it is refused: {', '.join(idle)} (LIMITS.md)")


def _check_broker_name(name: str, node_id: int) -> None:
    if not name:
        return
    try:
        asked = int(name)
    except ValueError:
        raise _invalid(f"Node id must be an integer, but it is: {name}") from None
    if asked != node_id:
        raise _invalid(f"Unexpected broker id, expected {node_id}, but received {name}")


def _check_broker(now: Mapping[str, str], after: Mapping[str, str], broker: BrokerConfig) -> None:
    static = [key for key in after if key not in KAFKA_DYNAMIC and key not in RATES and kind_of(key)]
    if static:
        raise _invalid(f"Cannot update these configs dynamically: [{', '.join(static)}]")
    _check_lengths(now, after)
    for key, text in after.items():
        if key not in OBEYED_LIVE and key not in RATES:
            raise _invalid(f"{key} cannot be altered while this broker runs (LIMITS.md)")
        try:
            check_dynamic(key, text)
        except ConfigError as error:
            raise _invalid(str(error)) from error
    altered = broker.with_dynamic(after)
    try:
        check_none_locked_out(altered.max_connections_per_ip, altered.max_connections_per_ip_overrides)
    except ConfigError as error:
        raise _invalid(str(error)) from error


def _check_group(name: str, now: Mapping[str, str], after: Mapping[str, str], broker: BrokerConfig) -> None:
    _check_lengths(now, after)
    if not name:
        raise _invalid("Default group resources are not allowed.")
    try:
        validate_group_configs(after, broker)
    except ConfigError as error:
        raise _refused(str(error)) from error
