"""CreateTopics: the controller decides and commits; the answer tells the shape and configs of the topic.

A config that nothing obeys yet is stored and answered as Kafka would, since Streams, Connect and the schema
registries send some with every topic they make; the broker's log says so in a line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.config_entries import TOPIC_SOURCE
from tailrace.core.config_keys import TOPIC_KEYS
from tailrace.core.errors import NONE, REQUEST_TIMED_OUT
from tailrace.core.metadata.requests import NewTopic, TopicResult
from tailrace.core.protocol.messages.create_topics import (
    CreateTopicsRequest,
    CreateTopicsRequestTopic,
    CreateTopicsResponse,
    CreateTopicsResponseConfig,
    CreateTopicsResponseTopic,
)
from tailrace.workers.control import CreateTopics, TopicResults
from tailrace.workers.gateway.broker_configs import broker_configs
from tailrace.workers.gateway.controller_requests import TIMED_OUT
from tailrace.workers.gateway.idle_configs import warn_of_idle
from tailrace.workers.gateway.leaders import await_leaders

if TYPE_CHECKING:
    from tailrace.core.config_entries import BrokerConfigs
    from tailrace.workers.gateway.controller_requests import Answer
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request


def handle(gateway: Gateway, request: Request) -> None:
    """Ask the controller; then wait, within the client's time, for leaders of what was made."""
    asked: CreateTopicsRequest = request.decode()
    deadline_ms = gateway.now_ms() + asked.timeout_ms

    def on_answer(answer: Answer) -> None:
        made: list[str] = []
        if isinstance(answer, TopicResults) and not asked.validate_only:
            for topic, result in zip(asked.topics, answer.results, strict=True):
                if result.error_code == NONE:
                    made.append(topic.name)
                    warn_of_idle(topic.name, {config.name: config.value or "" for config in topic.configs})
        left_ms = deadline_ms - gateway.now_ms()
        await_leaders(gateway, made, left_ms, lambda: _respond(gateway, request, asked, answer))

    gateway.controller.ask(
        lambda request_id: CreateTopics(
            request_id=request_id,
            topics=[_new_topic(topic) for topic in asked.topics],
            validate_only=asked.validate_only,
            timeout_ms=asked.timeout_ms,
        ),
        on_answer,
        asked.timeout_ms,
    )


def _new_topic(topic: CreateTopicsRequestTopic) -> NewTopic:
    return NewTopic(
        name=topic.name,
        num_partitions=topic.num_partitions,
        replication_factor=topic.replication_factor,
        assignments=[(placed.partition_index, placed.broker_ids) for placed in topic.assignments],
        configs=[(config.name, config.value) for config in topic.configs],
    )


def _respond(gateway: Gateway, request: Request, asked: CreateTopicsRequest, answer: Answer) -> None:
    if isinstance(answer, TopicResults):
        results = answer.results
    else:
        results = [
            TopicResult(name=topic.name, error_code=REQUEST_TIMED_OUT, error_message=TIMED_OUT)
            for topic in asked.topics
        ]
    broker = broker_configs(gateway)
    topics: dict[str, CreateTopicsResponseTopic] = {}  # a name that was asked for twice is answered once
    for topic, result in zip(asked.topics, results, strict=True):
        if result.error_code != NONE:
            topics[topic.name] = CreateTopicsResponseTopic(
                topic.name, error_code=result.error_code, error_message=result.error_message
            )
            continue
        topics[topic.name] = CreateTopicsResponseTopic(
            topic.name,
            result.topic_id,
            num_partitions=result.num_partitions,
            replication_factor=result.replication_factor,
            configs=_configs(topic, broker) if request.version >= 5 else [],
        )
    request.respond(CreateTopicsResponse(topics=list(topics.values())))


def _configs(topic: CreateTopicsRequestTopic, broker: BrokerConfigs) -> list[CreateTopicsResponseConfig]:
    """Every topic key as it now holds, by name; internal ones are told only to who sets them, as in Kafka."""
    given = {config.name: config.value for config in topic.configs}
    configs: list[CreateTopicsResponseConfig] = []
    for name in sorted(name for name in TOPIC_KEYS if name in given or not name.startswith("internal.")):
        if name in given:
            value, source = given[name], TOPIC_SOURCE
        else:
            value, source = broker.topic_value(name)
        configs.append(CreateTopicsResponseConfig(name, value, config_source=source))
    return configs
