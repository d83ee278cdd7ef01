"""DescribeCluster: the brokers, for administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.errors import MISMATCHED_ENDPOINT_TYPE, UNSUPPORTED_ENDPOINT_TYPE
from tailrace.core.protocol.messages.describe_cluster import (
    BROKERS,
    CONTROLLERS,
    DescribeClusterRequest,
    DescribeClusterResponse,
    DescribeClusterResponseBroker,
)
from tailrace.workers.gateway.cluster_view import CLUSTER_OPERATIONS

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request


def handle(gateway: Gateway, request: Request) -> None:
    """Every listener is a broker's: controllers cannot be asked here."""
    asked: DescribeClusterRequest = request.decode()
    if asked.endpoint_type != BROKERS:
        request.respond(_refusal(asked.endpoint_type))
        return
    listed = gateway.brokers.listed(request.connection)
    response = DescribeClusterResponse(
        cluster_id=gateway.context.cluster_id,
        controller_id=gateway.brokers.controller_id(),
        brokers=[DescribeClusterResponseBroker(*broker) for broker in listed],
    )
    if asked.include_fenced_brokers:
        fenced = gateway.brokers.fenced(request.connection)
        response.brokers += [DescribeClusterResponseBroker(*broker, is_fenced=True) for broker in fenced]
    if asked.include_cluster_authorized_operations:
        response.cluster_authorized_operations = CLUSTER_OPERATIONS
    request.respond(response)


def _refusal(endpoint_type: int) -> DescribeClusterResponse:
    if endpoint_type == CONTROLLERS:
        return DescribeClusterResponse(
            error_code=MISMATCHED_ENDPOINT_TYPE,
            error_message="The request was sent to an endpoint of type BROKER, "
            "but we wanted an endpoint of type CONTROLLER",
        )
    return DescribeClusterResponse(
        error_code=UNSUPPORTED_ENDPOINT_TYPE, error_message=f"Unsupported endpoint type {endpoint_type}"
    )
