"""DescribeConfigs: of topics, this broker, all brokers, groups. Kafka's codes and sentences.

There are no loggers whose levels could be told, and no client metrics: those resources have no configs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from tailrace.core import config_keys, errors
from tailrace.core.config_entries import ConfigEntry
from tailrace.core.errors import KafkaError
from tailrace.core.metadata.configs import RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS
from tailrace.core.metadata.records import RESOURCE_BROKER, RESOURCE_GROUP, RESOURCE_TOPIC
from tailrace.core.metadata.topics import check_topic_name
from tailrace.core.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsRequestResource,
    DescribeConfigsResponse,
    DescribeConfigsResponseConfig,
    DescribeConfigsResponseResult,
    DescribeConfigsResponseSynonym,
)
from tailrace.workers.gateway.broker_configs import broker_configs

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request

RESOURCES_A_STEP = 64  # of 0.2 ms each; then others have their turn
STEP_MS = 1

# Kafka's DescribeConfigsResponse.ConfigType; 0 is unknown.
_KINDS = {
    config_keys.BOOLEAN: 1,
    config_keys.STRING: 2,
    config_keys.INT: 3,
    config_keys.SHORT: 4,
    config_keys.LONG: 5,
    config_keys.DOUBLE: 6,
    config_keys.LIST: 7,
    config_keys.CLASS: 8,
    config_keys.PASSWORD: 9,
}


def handle(gateway: Gateway, request: Request) -> None:
    """Answer from the gateway's image, some resources at a time; one that is named twice is answered once."""
    asked: DescribeConfigsRequest = request.decode()
    resources = {(each.resource_type, each.resource_name): each for each in asked.resources}
    left = iter(resources.values())
    results: list[DescribeConfigsResponseResult] = []

    def step() -> None:
        chunk = list(islice(left, RESOURCES_A_STEP))
        results.extend(_result(gateway, asked, resource) for resource in chunk)
        if len(chunk) == RESOURCES_A_STEP:
            gateway.timers.schedule(gateway.now_ms() + STEP_MS, step)
            return
        request.respond(DescribeConfigsResponse(results=results))

    step()


def _result(
    gateway: Gateway, asked: DescribeConfigsRequest, resource: DescribeConfigsRequestResource
) -> DescribeConfigsResponseResult:
    kind, name = resource.resource_type, resource.resource_name
    try:
        entries = _entries(gateway, kind, name)
    except KafkaError as error:
        return DescribeConfigsResponseResult(error.code, error.message, kind, name)
    wanted = resource.configuration_keys
    if wanted:
        entries = [entry for entry in entries if entry.name in wanted]
    configs = [_config(entry, asked.include_synonyms, asked.include_documentation) for entry in entries]
    return DescribeConfigsResponseResult(errors.NONE, "", kind, name, configs)


def _entries(gateway: Gateway, kind: int, name: str) -> Sequence[ConfigEntry]:
    if kind == RESOURCE_TOPIC:
        check_topic_name(name)
        if name not in gateway.image.topics_by_name:
            raise KafkaError(errors.UNKNOWN_TOPIC_OR_PARTITION)
        return broker_configs(gateway).topic_entries(gateway.image.topic_configs(name))
    if kind == RESOURCE_BROKER:
        if not name:
            return broker_configs(gateway).cluster_entries()
        _check_broker(name, gateway.context.node_id, " or empty string,")
        return broker_configs(gateway).broker_entries()
    if kind == RESOURCE_GROUP:
        if not name:
            raise _invalid("Group name must not be empty")
        return broker_configs(gateway).group_entries(gateway.image.configs.get((RESOURCE_GROUP, name), {}))
    if kind == RESOURCE_BROKER_LOGGER:
        if not name:
            raise _invalid("Broker id must not be empty")
        _check_broker(name, gateway.context.node_id, "")
        return []
    if kind == RESOURCE_CLIENT_METRICS:
        if not name:
            raise _invalid("Client metrics subscription name must not be empty")
        return []
    raise _invalid(f"Unsupported resource type: {kind}")


def _invalid(message: str) -> KafkaError:
    return KafkaError(errors.INVALID_REQUEST, message)


def _check_broker(name: str, node_id: int, more: str) -> None:
    try:
        asked = int(name)
    except ValueError:
        raise _invalid(f"Broker id must be an integer, but it is: {name}") from None
    if asked != node_id:
        raise _invalid(f"Unexpected broker id, expected {node_id}{more} but received {name}")


def _config(entry: ConfigEntry, has_synonyms: bool, has_doc: bool) -> DescribeConfigsResponseConfig:
    synonyms = entry.synonyms if has_synonyms else ()
    return DescribeConfigsResponseConfig(
        entry.name,
        entry.value,
        entry.is_read_only,
        entry.source,
        entry.is_sensitive,
        [DescribeConfigsResponseSynonym(synonym.name, synonym.value, synonym.source) for synonym in synonyms],
        _KINDS.get(entry.kind, 0),
        entry.doc if has_doc else None,
    )
