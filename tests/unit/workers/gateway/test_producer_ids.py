"""InitProducerId: ids nobody else has, and one ask for many who wait."""

import pytest

from tailrace.core.errors import (
    COORDINATOR_LOAD_IN_PROGRESS,
    INVALID_REQUEST,
    KAFKA_STORAGE_ERROR,
    UNKNOWN_SERVER_ERROR,
    UNSUPPORTED_VERSION,
)
from tailrace.core.metadata.producer_ids import BLOCK_SIZE
from tailrace.core.protocol.apis import INIT_PRODUCER_ID
from tailrace.core.protocol.messages.init_producer_id import InitProducerIdRequest
from tailrace.workers.control import ProducerIds
from tailrace.workers.gateway.handlers.init_producer_id import handle
from tests.unit.workers.gateway.fakes import FakeGateway, FakeRequest


def _ask(gateway: FakeGateway, *, version: int = 5, **fields: object) -> FakeRequest:
    return gateway.ask(handle, INIT_PRODUCER_ID, version, InitProducerIdRequest(**fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("version", range(6))
def test_every_version_gets_a_new_id(version: int) -> None:
    gateway = FakeGateway()
    answers = [_ask(gateway, version=version).answer for _ in range(3)]
    assert [(answer.error_code, answer.producer_epoch) for answer in answers] == [(0, 0)] * 3
    assert len({answer.producer_id for answer in answers}) == 3


def test_a_producer_that_had_an_id_gets_another() -> None:
    answer = _ask(FakeGateway(), producer_id=7, producer_epoch=3).answer
    assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (0, 0, 0)


def test_more_waiting_than_a_block_has_share_few_asks() -> None:
    gateway = FakeGateway()
    gateway.peer.is_prompt = False
    waiting = [_ask(gateway) for _ in range(2 * BLOCK_SIZE + 1)]
    for asks in (1, 2, 3):
        assert len(gateway.peer.sent) == asks
        gateway.peer.answer(gateway.peer.sent[-1])
    assert [request.answer.producer_id for request in waiting] == list(range(2 * BLOCK_SIZE + 1))


def test_without_controller_the_producer_is_told_to_wait() -> None:
    gateway = FakeGateway()
    gateway.peer.incarnation = 0
    request = _ask(gateway)
    gateway.advance(10_000)
    assert request.answer.error_code == COORDINATOR_LOAD_IN_PROGRESS
    assert (request.answer.producer_id, request.answer.producer_epoch) == (-1, -1)
    gateway.peer.incarnation = 2
    assert _ask(gateway).answer.error_code == 0


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (KAFKA_STORAGE_ERROR, COORDINATOR_LOAD_IN_PROGRESS),
        (UNKNOWN_SERVER_ERROR, UNKNOWN_SERVER_ERROR),
    ],
)
def test_the_controllers_refusal(code: int, told: int) -> None:
    gateway = FakeGateway()
    gateway.peer.is_prompt = False
    request = _ask(gateway)
    gateway.controller.on_message(
        ProducerIds(
            request_id=gateway.peer.sent[0].request_id, first_producer_id=-1, count=0, error_code=code
        )
    )
    assert request.answer.error_code == told


def test_what_is_refused() -> None:
    gateway = FakeGateway()
    assert _ask(gateway, producer_id=7).answer.error_code == INVALID_REQUEST
    assert _ask(gateway, producer_epoch=7).answer.error_code == INVALID_REQUEST
    assert _ask(gateway, transactional_id="").answer.error_code == INVALID_REQUEST
    assert _ask(gateway, transactional_id="mine").answer.error_code == UNSUPPORTED_VERSION
    assert gateway.peer.sent == []
