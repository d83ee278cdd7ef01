"""DescribeCluster (60): brokers, for administrators. Version 1 can ask a controller, 2 shows fenced ones."""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    Bool,
    Int8,
    Int16,
    Int32,
    NullableString,
    String,
    message,
    since,
)

BROKERS = 1  # endpoint types
CONTROLLERS = 2


@message(versions=(0, 2), flexible=0)
class DescribeClusterRequest(Struct, gc=False):
    """What to tell."""

    include_cluster_authorized_operations: Bool = False
    endpoint_type: Annotated[Int8, since(1)] = BROKERS
    include_fenced_brokers: Annotated[Bool, since(2)] = False


class DescribeClusterResponseBroker(Struct, gc=False):
    """A broker and where to reach it."""

    broker_id: Int32 = 0
    host: String = ""
    port: Int32 = 0
    rack: NullableString = None
    is_fenced: Annotated[Bool, since(2)] = False


@message(versions=(0, 2), flexible=0)
class DescribeClusterResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = None
    endpoint_type: Annotated[Int8, since(1)] = BROKERS
    cluster_id: String = ""
    controller_id: Int32 = -1
    brokers: list[DescribeClusterResponseBroker] = []
    cluster_authorized_operations: Int32 = -(2**31)
