"""What is asked of the controller ends once, whatever dies or is full."""

from typing import Any

from tailrace.workers.control import AllocateProducerIds, ProducerIds, TopicResults
from tailrace.workers.gateway.controller_requests import UNANSWERED_MAX
from tests.unit.workers.gateway.fakes import FakeGateway


def _slow_gateway() -> FakeGateway:
    gateway = FakeGateway()
    gateway.peer.is_prompt = False
    return gateway


def _ask(gateway: FakeGateway, timeout_ms: int = 100) -> list[Any]:
    answers: list[Any] = []
    gateway.controller.ask(
        lambda request_id: AllocateProducerIds(request_id=request_id), answers.append, timeout_ms
    )
    return answers


def _ids(request_id: int) -> ProducerIds:
    return ProducerIds(request_id=request_id, first_producer_id=0, count=1, error_code=0)


def _results(gateway: FakeGateway, ahead: int) -> TopicResults:
    request_id = gateway.peer.sent[-1].request_id
    return TopicResults(
        request_id=request_id, metadata_offset=gateway.image.metadata_offset + ahead, results=[]
    )


def test_each_answer_reaches_its_asker_once() -> None:
    gateway = _slow_gateway()
    first, second = _ask(gateway), _ask(gateway)
    ids = [message.request_id for message in gateway.peer.sent]
    for request_id in (*reversed(ids), *ids, 999):
        gateway.controller.on_message(_ids(request_id))
    assert [answer.request_id for answer in first + second] == ids
    assert gateway.timers.next_deadline_ms() is None


def test_an_unanswered_ask_ends_in_time() -> None:
    gateway = _slow_gateway()
    answers = _ask(gateway, 50)
    gateway.advance(49)
    assert answers == []
    gateway.advance(1)
    assert answers == [None]
    gateway.controller.on_message(_ids(gateway.peer.sent[0].request_id))
    assert answers == [None]


def test_an_answer_waits_for_the_image() -> None:
    gateway = _slow_gateway()
    answers = _ask(gateway)
    message = _results(gateway, ahead=2)
    gateway.controller.on_message(message)
    gateway.image.replay([], gateway.image.metadata_offset + 1)
    gateway.controller.on_image_moved()
    assert answers == []
    gateway.image.replay([], gateway.image.metadata_offset + 1)
    gateway.controller.on_image_moved()
    assert answers == [message]


def test_the_next_controller_is_asked_what_its_predecessor_left_unanswered() -> None:
    gateway = _slow_gateway()
    answered, held, open_ = _ask(gateway), _ask(gateway), _ask(gateway)
    first, second, third = (message.request_id for message in gateway.peer.sent)
    gateway.controller.on_message(_ids(first))
    gateway.controller.on_message(TopicResults(request_id=second, metadata_offset=99, results=[]))
    gateway.peer.sent.clear()
    gateway.peer.incarnation = 0
    gateway.controller.on_controller_changed()
    late = _ask(gateway)
    assert gateway.peer.sent == []
    gateway.peer.incarnation = 2
    gateway.controller.on_controller_changed()
    gateway.controller.on_controller_changed()
    assert [message.request_id for message in gateway.peer.sent] == [third, third + 1]
    gateway.controller.on_message(_ids(third))
    assert (len(answered), len(held), len(open_), len(late)) == (1, 0, 1, 0)


def test_too_much_is_refused_at_once() -> None:
    gateway = _slow_gateway()
    asked = [_ask(gateway) for _ in range(UNANSWERED_MAX)]
    assert _ask(gateway) == [None]
    gateway.advance(100)
    assert all(answers == [None] for answers in asked)


def test_a_controller_that_takes_no_more_ends_the_ask() -> None:
    gateway = _slow_gateway()
    gateway.peer.is_full = True
    assert _ask(gateway) == [None]
    assert gateway.timers.next_deadline_ms() is None
