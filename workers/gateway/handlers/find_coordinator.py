"""FindCoordinator: this broker coordinates every group; the first ask makes the topic that holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.errors import COORDINATOR_NOT_AVAILABLE, INVALID_REQUEST, NONE
from tailrace.core.protocol.messages.find_coordinator import (
    GROUP,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
    FindCoordinatorResponseCoordinator,
)

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request

BATCHED_SINCE = 4
_NOT_SERVED = "Only groups have coordinators here: transactions and share groups are not served yet."


def handle(gateway: Gateway, request: Request) -> None:
    """One key, or several from version 4 on."""
    asked: FindCoordinatorRequest = request.decode()
    if asked.key_type != GROUP:
        _answer(gateway, request, asked, INVALID_REQUEST)
        return

    def on_ready(code: int) -> None:
        _answer(gateway, request, asked, COORDINATOR_NOT_AVAILABLE if code else NONE)

    gateway.coordinators.prepare(on_ready)


def _answer(gateway: Gateway, request: Request, asked: FindCoordinatorRequest, code: int) -> None:
    connection = request.connection
    if connection.closed:
        return
    node, (host, port) = gateway.context.node_id, gateway.advertised(connection)
    if code:
        node, host, port = -1, "", -1
    message = _NOT_SERVED if code == INVALID_REQUEST else None
    if request.version >= BATCHED_SINCE:
        request.respond(
            FindCoordinatorResponse(
                coordinators=[
                    FindCoordinatorResponseCoordinator(key, node, host, port, code, message or "")
                    for key in asked.coordinator_keys
                ]
            )
        )
        return
    text = message or ("NONE" if not code else "The coordinator is not available.")
    request.respond(
        FindCoordinatorResponse(error_code=code, error_message=text, node_id=node, host=host, port=port)
    )
