"""UnregisterBroker (64): forget a broker that will not come back."""

from msgspec import Struct

from tailrace.core.protocol.schema import Int16, Int32, NullableString, message


@message(versions=(0, 0), flexible=0)
class UnregisterBrokerRequest(Struct, gc=False):
    """Which broker."""

    broker_id: Int32 = 0


@message(versions=(0, 0), flexible=0)
class UnregisterBrokerResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = None
