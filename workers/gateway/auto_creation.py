"""Topics made because a client asked for their metadata (auto.create.topics.enable).

Kafka answers the first request with UNKNOWN_TOPIC_OR_PARTITION and lets the client ask again. We wait until
the topic is there and led, within bounds, so that most clients learn of it by their first request. Whoever
asks for a topic that is being made waits with the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tailrace.core.config_group_keys import OFFSETS_TOPIC_CONFIGS
from tailrace.core.errors import NONE, TOPIC_ALREADY_EXISTS, UNKNOWN_TOPIC_OR_PARTITION
from tailrace.core.metadata.requests import NewTopic
from tailrace.core.metadata.topics import OFFSETS_TOPIC
from tailrace.workers.control import CreateTopics, TopicResults
from tailrace.workers.gateway.leaders import LEADERS_TIMEOUT_MS, await_leaders

if TYPE_CHECKING:
    from tailrace.workers.gateway.controller_requests import Answer
    from tailrace.workers.gateway.gateway import Gateway

CREATION_TIMEOUT_MS = 5_000
WAITING_MAX = 50_000  # names that requests wait for, all together; others hear that there is no such topic


OnMade = Callable[[dict[str, int]], None]  # name -> error code; NONE: the image has it


class AutoCreation:
    """The topics that are being made."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._making: dict[str, list[Callable[[str, int], None]]] = {}
        self._waiting = 0  # callbacks in it

    def make(self, names: Sequence[str], on_made: OnMade) -> None:
        """Have the (different, valid) names made with the broker's defaults; then call `on_made`."""
        if self._waiting + len(names) > WAITING_MAX:
            on_made(dict.fromkeys(names, UNKNOWN_TOPIC_OR_PARTITION))  # the client asks again
            return
        self._waiting += len(names)
        codes: dict[str, int] = {}

        def end_one(name: str, code: int) -> None:
            codes[name] = code
            if len(codes) == len(names):
                on_made(codes)

        new = [name for name in names if name not in self._making]
        for name in names:
            self._making.setdefault(name, []).append(end_one)
        if new:
            self._gateway.controller.ask(
                lambda request_id: CreateTopics(
                    request_id=request_id,
                    topics=[_new_topic(self._gateway, name) for name in new],
                    validate_only=False,
                    timeout_ms=CREATION_TIMEOUT_MS,
                    automatic=True,
                ),
                lambda answer: self._on_answer(new, answer),
                CREATION_TIMEOUT_MS,
            )

    def _on_answer(self, names: list[str], answer: Answer) -> None:
        if not isinstance(answer, TopicResults):
            for name in names:
                self._end(name, UNKNOWN_TOPIC_OR_PARTITION)  # the client asks again, as it would of Kafka
            return
        made: list[str] = []
        for name, result in zip(names, answer.results, strict=True):
            if result.error_code in (NONE, TOPIC_ALREADY_EXISTS):
                made.append(name)
            else:
                self._end(name, result.error_code)
        await_leaders(self._gateway, made, LEADERS_TIMEOUT_MS, lambda: self._end_all(made))

    def _end_all(self, names: list[str]) -> None:
        for name in names:
            self._end(name, NONE)

    def _end(self, name: str, code: int) -> None:
        for end_one in self._making.pop(name, ()):
            self._waiting -= 1
            end_one(name, code)


def _new_topic(gateway: Gateway, name: str) -> NewTopic:
    """With the broker's defaults, or as Kafka makes a topic of its own."""
    if name != OFFSETS_TOPIC:
        return NewTopic(name=name)
    config = gateway.config
    return NewTopic(
        name=name,
        num_partitions=config.integer("offsets.topic.num.partitions"),
        replication_factor=min(
            config.integer("offsets.topic.replication.factor"), len(gateway.context.brokers)
        ),
        configs=[
            *OFFSETS_TOPIC_CONFIGS,
            ("segment.bytes", str(config.integer("offsets.topic.segment.bytes"))),
        ],
    )
