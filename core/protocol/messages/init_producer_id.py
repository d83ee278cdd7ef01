"""InitProducerId (22): a producer id and epoch. Version 3 may keep the producer's id and bump its epoch."""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    Int16,
    Int32,
    Int64,
    NullableString,
    message,
    since,
)


@message(versions=(0, 5), flexible=2)
class InitProducerIdRequest(Struct, gc=False):
    """Who asks."""

    transactional_id: NullableString = None
    transaction_timeout_ms: Int32 = 0
    producer_id: Annotated[Int64, since(3)] = -1
    producer_epoch: Annotated[Int16, since(3)] = -1


@message(versions=(0, 5), flexible=2)
class InitProducerIdResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Annotated[Int32, IGNORABLE] = 0
    error_code: Int16 = 0
    producer_id: Int64 = -1
    producer_epoch: Int16 = 0
