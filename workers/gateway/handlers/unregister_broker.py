"""UnregisterBroker: the controller forgets a broker; what lies there stays assigned to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.errors import REQUEST_TIMED_OUT
from tailrace.core.protocol.messages.unregister_broker import (
    UnregisterBrokerRequest,
    UnregisterBrokerResponse,
)
from tailrace.workers.control import PartitionResults, UnregisterBroker
from tailrace.workers.gateway.controller_requests import TIMED_OUT

if TYPE_CHECKING:
    from tailrace.workers.gateway.controller_requests import Answer
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request

TIMEOUT_MS = 30_000  # the request brings none


def handle(gateway: Gateway, request: Request) -> None:
    """Ask the controller and wait until this gateway's own image lacks the broker."""
    asked: UnregisterBrokerRequest = request.decode()

    def on_answer(answer: Answer) -> None:
        code, message = REQUEST_TIMED_OUT, TIMED_OUT
        if isinstance(answer, PartitionResults):
            code, message = answer.error_code, answer.error_message or ""
        request.respond(UnregisterBrokerResponse(error_code=code, error_message=message))

    gateway.controller.ask(
        lambda request_id: UnregisterBroker(request_id=request_id, broker_id=asked.broker_id),
        on_answer,
        TIMEOUT_MS,
    )
