"""Requests about one group: to its coordinator as they came, and its answer back.

The group's name is the first field of each of them. An OffsetFetch of version 8 or later names several groups
and is in group_batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.errors import ProtocolError
from tailrace.core.protocol import apis
from tailrace.core.protocol.compile import decode
from tailrace.core.protocol.primitives import MALFORMED, uvarint
from tailrace.workers.gateway.handlers.group_refusals import refusal

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request


def handle(gateway: Gateway, request: Request) -> None:
    """Forward. Its message is decoded once, by the coordinator, which says so when it cannot."""
    block = request.connection.block
    assert block is not None
    body = bytes(block.map[request.position : request.end])
    group_id = _group_id(body, request.version >= request.api.flexible_since)

    def on_answer(error: int, answer: bytes) -> None:
        if not error:
            request.respond_body(answer)
            return
        try:
            message = decode(request.api.request, request.version, body)
        except ProtocolError:
            request.connection.hang_up(request)
        else:
            request.respond(refusal(request.api.key, request.version, message, error))

    coordinators = gateway.coordinators
    coordinators.ask(coordinators.index_of(group_id), request, body, on_answer)


def _group_id(body: bytes, flexible: bool) -> str:
    try:
        if flexible:
            size, start = uvarint(body, 0)
            return body[start : start + size - 1].decode()
        return body[2 : 2 + int.from_bytes(body[:2])].decode()
    except MALFORMED as error:
        raise ProtocolError(f"group id: {error}") from error


APIS_OF_ONE_GROUP = (
    apis.OFFSET_COMMIT,
    apis.JOIN_GROUP,
    apis.HEARTBEAT,
    apis.LEAVE_GROUP,
    apis.SYNC_GROUP,
    apis.OFFSET_DELETE,
    apis.CONSUMER_GROUP_HEARTBEAT,
)
