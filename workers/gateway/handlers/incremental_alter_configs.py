"""IncrementalAlterConfigs: sets, deletes, appends to and subtracts from the configs it names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tailrace.core.metadata.requests import ConfigChange, ConfigResult, ResourceChange
from tailrace.core.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsRequestResource,
    IncrementalAlterConfigsResponse,
    IncrementalAlterConfigsResponseResource,
)
from tailrace.workers.gateway.handlers.alter_configs import alter

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request


def handle(gateway: Gateway, request: Request) -> None:
    """Ask the controller and wait until this gateway's own image has the configs."""
    asked: IncrementalAlterConfigsRequest = request.decode()
    changes = [_change(resource) for resource in asked.resources]

    def respond(results: Sequence[ConfigResult]) -> None:
        responses = [
            IncrementalAlterConfigsResponseResource(
                result.error_code, result.error_message, change.resource_type, change.name
            )
            for change, result in zip(changes, results, strict=True)
        ]
        request.respond(IncrementalAlterConfigsResponse(responses=responses))

    alter(gateway, changes, respond, validate_only=asked.validate_only, replaces_all=False)


def _change(resource: IncrementalAlterConfigsRequestResource) -> ResourceChange:
    return ResourceChange(
        resource_type=resource.resource_type,
        name=resource.resource_name,
        changes=[
            ConfigChange(key=config.name, operation=config.config_operation, value=config.value)
            for config in resource.configs
        ],
    )
