"""InitProducerId for idempotent producers: a new id each time, in epoch 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.errors import INVALID_REQUEST, NONE, UNSUPPORTED_VERSION
from tailrace.core.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request

NO_PRODUCER_ID = -1
NO_EPOCH = -1


def handle(gateway: Gateway, request: Request) -> None:
    """An idempotent producer that names the id it had gets a new one all the same, as in Kafka: only
    transactional ids keep theirs.
    """
    asked: InitProducerIdRequest = request.decode()
    code = _refusal(asked)
    if code != NONE:
        _respond(request, code, NO_PRODUCER_ID)
        return
    gateway.controller.producer_ids.take(lambda code, producer_id: _respond(request, code, producer_id))


def _refusal(asked: InitProducerIdRequest) -> int:
    if (asked.producer_id == NO_PRODUCER_ID) != (asked.producer_epoch == NO_EPOCH):
        return INVALID_REQUEST
    if asked.transactional_id is None:
        return NONE
    if not asked.transactional_id:
        return INVALID_REQUEST
    # There is no transaction coordinator. NOT_COORDINATOR and its like would be retried for ever, an
    # authorization error would send people looking for ACLs; this one is fatal to every client.
    return UNSUPPORTED_VERSION


def _respond(request: Request, code: int, producer_id: int) -> None:
    epoch = 0 if code == NONE else NO_EPOCH
    request.respond(InitProducerIdResponse(error_code=code, producer_id=producer_id, producer_epoch=epoch))
