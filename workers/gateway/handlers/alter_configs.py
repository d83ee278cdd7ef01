"""AlterConfigs, which replaces all configs of a resource, and what it has in common with
IncrementalAlterConfigs: the controller decides and has the workers told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tailrace.core.errors import NONE, REQUEST_TIMED_OUT
from tailrace.core.metadata.records import RESOURCE_TOPIC
from tailrace.core.metadata.requests import DELETE, SET, ConfigChange, ConfigResult, ResourceChange
from tailrace.core.protocol.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsRequestResource,
    AlterConfigsResponse,
    AlterConfigsResponseResource,
)
from tailrace.workers.control import AlterConfigs, ConfigResults
from tailrace.workers.gateway.controller_requests import TIMED_OUT
from tailrace.workers.gateway.idle_configs import warn_of_idle

if TYPE_CHECKING:
    from tailrace.workers.gateway.controller_requests import Answer
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request

TIMEOUT_MS = 30_000  # these requests bring none; Kafka waits as long for its controller


def handle(gateway: Gateway, request: Request) -> None:
    """Ask the controller and wait until this gateway's own image has the configs."""
    asked: AlterConfigsRequest = request.decode()
    changes = [_change(resource) for resource in asked.resources]

    def respond(results: Sequence[ConfigResult]) -> None:
        responses = [
            AlterConfigsResponseResource(
                result.error_code, result.error_message, change.resource_type, change.name
            )
            for change, result in zip(changes, results, strict=True)
        ]
        request.respond(AlterConfigsResponse(responses=responses))

    alter(gateway, changes, respond, validate_only=asked.validate_only, replaces_all=True)


def _change(resource: AlterConfigsRequestResource) -> ResourceChange:
    return ResourceChange(
        resource_type=resource.resource_type,
        name=resource.resource_name,
        changes=[
            ConfigChange(key=config.name, operation=SET, value=config.value) for config in resource.configs
        ],
    )


def alter(
    gateway: Gateway,
    changes: list[ResourceChange],
    respond: Callable[[Sequence[ConfigResult]], None],
    *,
    validate_only: bool,
    replaces_all: bool,
) -> None:
    """Have the controller alter configs; `respond` takes one result a resource, in their order."""

    def on_answer(answer: Answer) -> None:
        if not isinstance(answer, ConfigResults):
            late = ConfigResult(error_code=REQUEST_TIMED_OUT, error_message=TIMED_OUT)
            respond([late] * len(changes))
            return
        if not validate_only:
            for change, result in zip(changes, answer.results, strict=True):
                if result.error_code == NONE and change.resource_type == RESOURCE_TOPIC:
                    _warn(gateway, change)
        respond(answer.results)

    gateway.controller.ask(
        lambda request_id: AlterConfigs(
            request_id=request_id,
            resources=changes,
            validate_only=validate_only,
            replaces_all=replaces_all,
        ),
        on_answer,
        TIMEOUT_MS,
    )


def _warn(gateway: Gateway, resource: ResourceChange) -> None:
    set_now = {change.key for change in resource.changes if change.operation != DELETE}
    configs = gateway.image.topic_configs(resource.name)
    warn_of_idle(resource.name, {key: text for key, text in configs.items() if key in set_now})
