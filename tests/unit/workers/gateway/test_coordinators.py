"""Who asks while a coordinator has no process: what only reads waits for the successor, all else is told."""

from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tailrace.core.errors import (
    COORDINATOR_LOAD_IN_PROGRESS,
    KAFKA_STORAGE_ERROR,
    NONE,
    NOT_COORDINATOR,
    NOT_LEADER_OR_FOLLOWER,
)
from tailrace.core.metadata.image import TopicImage
from tailrace.core.metadata.topics import OFFSETS_TOPIC
from tailrace.core.protocol import apis
from tailrace.core.timers import Timers
from tailrace.workers.gateway.coordinators import SUCCESSOR_TIMEOUT_MS, Coordinators
from tailrace.workers.gateway.gateway import Gateway
from tailrace.workers.gateway.request import Request


class FakeGateway:
    """One coordinator, which answers one after the other what the test says."""

    def __init__(self, *answers: int) -> None:
        self.now = 0
        self.timers = Timers()
        self.answers = deque(answers)
        self.partition = SimpleNamespace(error=NONE, elsewhere=None)
        topic = TopicImage(name=OFFSETS_TOPIC, topic_id=bytes(16), partitions=[cast(Any, None)])
        self.image = SimpleNamespace(topics_by_name={OFFSETS_TOPIC: topic})
        self.partitions = self
        self.asks = self
        self.asked = 0

    def get(self, _name: str, _topic_id: bytes, _index: int) -> Any:
        """The only partition."""
        return self.partition

    def now_ms(self) -> int:
        """Virtual."""
        return self.now

    def ask(self, _: Any, _what: int, _question: bytes, on_answer: Callable[[int, bytes], None]) -> None:
        """The coordinator's next answer; the last one for ever."""
        self.asked += 1
        error = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        on_answer(error, b"" if error else b"body")


def told(gateway: FakeGateway, api: int) -> list[tuple[int, int]]:
    """When the client is told, and what."""
    heard: list[tuple[int, int]] = []
    connection = SimpleNamespace(peer="127.0.0.1")
    request = SimpleNamespace(connection=connection, api=apis.APIS[api], version=2, client_id="c")
    coordinators = Coordinators(cast(Gateway, gateway))
    coordinators.ask(0, cast(Request, request), b"", lambda error, _: heard.append((gateway.now, error)))
    while not heard:
        gateway.now += 1
        gateway.timers.run_due(gateway.now)
        assert gateway.now < 10_000
    return heard


@pytest.mark.parametrize("error", [NOT_LEADER_OR_FOLLOWER, COORDINATOR_LOAD_IN_PROGRESS])
def test_what_only_reads_waits_for_the_successor(error: int) -> None:
    gateway = FakeGateway(error, error, NONE)
    assert [code for _, code in told(gateway, apis.OFFSET_FETCH)] == [NONE]
    assert gateway.asked == 3


@pytest.mark.parametrize("error", [NOT_LEADER_OR_FOLLOWER, COORDINATOR_LOAD_IN_PROGRESS])
def test_it_does_not_wait_for_ever(error: int) -> None:
    ((when, code),) = told(FakeGateway(error), apis.OFFSET_FETCH)
    assert code == (NOT_COORDINATOR if error == NOT_LEADER_OR_FOLLOWER else error)
    assert SUCCESSOR_TIMEOUT_MS <= when <= SUCCESSOR_TIMEOUT_MS + 50


def test_what_writes_is_told_at_once() -> None:
    """It may have been done."""
    assert told(FakeGateway(NOT_LEADER_OR_FOLLOWER, NONE), apis.OFFSET_COMMIT) == [(0, NOT_COORDINATOR)]


def test_nobody_waits_for_a_partition_that_is_out_of_service() -> None:
    gateway = FakeGateway(NOT_LEADER_OR_FOLLOWER, NONE)
    gateway.partition.error = KAFKA_STORAGE_ERROR
    assert told(gateway, apis.OFFSET_FETCH) == [(0, NOT_COORDINATOR)]


def test_nobody_waits_for_one_that_another_broker_leads() -> None:
    gateway = FakeGateway(NOT_LEADER_OR_FOLLOWER, NONE)
    gateway.partition.elsewhere = object()
    assert told(gateway, apis.OFFSET_FETCH) == [(0, NOT_COORDINATOR)]
