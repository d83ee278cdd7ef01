"""FindCoordinator: who leads the group's partition of __consumer_offsets; the first ask makes that topic."""

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
    message = _NOT_SERVED if code == INVALID_REQUEST else None
    if request.version >= BATCHED_SINCE:
        found = [_find(gateway, request, key, code, message or "") for key in asked.coordinator_keys]
        request.respond(FindCoordinatorResponse(coordinators=found))
        return
    one = _find(gateway, request, asked.key, code, "")
    request.respond(
        FindCoordinatorResponse(
            error_code=one.error_code,
            error_message=message or ("The coordinator is not available." if one.error_code else "NONE"),
            node_id=one.node_id,
            host=one.host,
            port=one.port,
        )
    )


def _find(
    gateway: Gateway, request: Request, key: str, code: int, message: str
) -> FindCoordinatorResponseCoordinator:
    node_id = -1 if code else gateway.coordinators.broker_of(key)
    endpoint = None if node_id < 0 else gateway.brokers.endpoint(node_id, request.connection)
    if endpoint is None:
        code = code or COORDINATOR_NOT_AVAILABLE
        return FindCoordinatorResponseCoordinator(key, -1, "", -1, code, message)
    return FindCoordinatorResponseCoordinator(key, endpoint.node_id, endpoint.host, endpoint.port, NONE, "")
