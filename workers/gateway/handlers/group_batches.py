"""Requests about several groups, or about all: split by coordinator, the answers put together again in the
order of the request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from tailrace.core.errors import COORDINATOR_NOT_AVAILABLE, NONE, NOT_COORDINATOR
from tailrace.core.protocol import apis
from tailrace.core.protocol.compile import decode, encode
from tailrace.workers.gateway.cluster_view import GROUP_OPERATIONS
from tailrace.workers.gateway.handlers import groups

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request

BATCHED_FETCH_SINCE = 8

OnAnswers = Callable[[dict[int, tuple[int, Any]]], None]
"""By coordinator: its error code, or NONE and its response."""


def describe_groups(gateway: Gateway, request: Request) -> None:
    """DescribeGroups."""
    from tailrace.core.protocol.messages import describe_groups as m

    asked: m.DescribeGroupsRequest = request.decode()
    _describe(
        gateway, request, asked.groups, asked.include_authorized_operations, m.DescribeGroupsRequest,
        m.DescribeGroupsResponseGroup, m.DescribeGroupsResponse,
    )  # fmt: skip


def consumer_group_describe(gateway: Gateway, request: Request) -> None:
    """ConsumerGroupDescribe."""
    from tailrace.core.protocol.messages import consumer_group_describe as m

    asked: m.ConsumerGroupDescribeRequest = request.decode()
    _describe(
        gateway, request, asked.group_ids, asked.include_authorized_operations,
        m.ConsumerGroupDescribeRequest, m.ConsumerGroupDescribeResponseGroup,
        m.ConsumerGroupDescribeResponse,
    )  # fmt: skip


def _describe(
    gateway: Gateway,
    request: Request,
    names: Sequence[str],
    with_operations: bool,
    part: Callable[[list[str]], Struct],
    group: Callable[..., Any],
    response: Callable[..., Struct],
) -> None:
    """Groups of one kind, with what may be done to them if that was asked."""

    def respond(found: list[Any]) -> None:
        for one in found:
            if with_operations and not one.error_code:
                one.authorized_operations = GROUP_OPERATIONS
        request.respond(response(groups=found))

    def refused(name: str, error: int) -> Any:
        return group(error, group_id=name)

    _by_group(gateway, request, names, part, lambda answer: answer.groups, refused, respond)


def delete_groups(gateway: Gateway, request: Request) -> None:
    """DeleteGroups."""
    from tailrace.core.protocol.messages import delete_groups as m

    asked: m.DeleteGroupsRequest = request.decode()
    _by_group(
        gateway, request, asked.groups_names, lambda names: m.DeleteGroupsRequest(names),
        lambda response: response.results, m.DeleteGroupsResponseResult,
        lambda found: request.respond(m.DeleteGroupsResponse(results=found)),
    )  # fmt: skip


def offset_fetch(gateway: Gateway, request: Request) -> None:
    """OffsetFetch: of one group up to version 7, of several later."""
    if request.version < BATCHED_FETCH_SINCE:
        groups.handle(gateway, request)
        return
    from tailrace.core.protocol.messages import offset_fetch as m

    asked: m.OffsetFetchRequest = request.decode()
    by_name = {group.group_id: group for group in asked.groups}

    def refused(name: str, error: int) -> m.OffsetFetchResponseGroup:
        return m.OffsetFetchResponseGroup(name, [], error)

    def part(names: Sequence[str]) -> m.OffsetFetchRequest:
        return m.OffsetFetchRequest(
            groups=[by_name[name] for name in names], require_stable=asked.require_stable
        )

    _by_group(
        gateway, request, [group.group_id for group in asked.groups], part,
        lambda response: response.groups, refused,
        lambda found: request.respond(m.OffsetFetchResponse(groups=found)),
    )  # fmt: skip


def list_groups(gateway: Gateway, request: Request) -> None:
    """ListGroups: every coordinator of this broker is asked."""
    from tailrace.core.protocol.messages import list_groups as m

    asked: m.ListGroupsRequest = request.decode()

    def on_answers(answers: dict[int, tuple[int, Any]]) -> None:
        found: list[m.ListGroupsResponseGroup] = []
        failed = NONE
        for error, response in answers.values():
            error = error or response.error_code
            if error:
                failed = COORDINATOR_NOT_AVAILABLE if error == NOT_COORDINATOR else error
            else:
                found += response.groups
        request.respond(m.ListGroupsResponse(error_code=failed, groups=[] if failed else found))

    _scatter(gateway, request, dict.fromkeys(gateway.coordinators.own(), asked), on_answers)


def _by_group(
    gateway: Gateway,
    request: Request,
    names: Sequence[str],
    part: Callable[[list[str]], Struct],
    results: Callable[[Any], list[Any]],
    refused: Callable[[str, int], Any],
    respond: Callable[[list[Any]], None],
) -> None:
    """Ask each coordinator about its own groups; a group named twice is asked and answered once."""
    coordinators = gateway.coordinators
    split: dict[int, list[str]] = {}
    for name in dict.fromkeys(names):
        split.setdefault(coordinators.index_of(name), []).append(name)

    def on_answers(answers: dict[int, tuple[int, Any]]) -> None:
        found: dict[str, Any] = {}
        for index, (error, response) in answers.items():
            if error:
                found.update((name, refused(name, error)) for name in split[index])
            else:
                found.update(zip(split[index], results(response), strict=True))
        respond([found[name] for name in dict.fromkeys(names)])

    _scatter(gateway, request, {index: part(some) for index, some in split.items()}, on_answers)


def _scatter(gateway: Gateway, request: Request, parts: Mapping[int, Struct], on_answers: OnAnswers) -> None:
    answers: dict[int, tuple[int, Any]] = {}
    if not parts:
        on_answers(answers)
        return

    def take(index: int, error: int, body: bytes) -> None:
        answers[index] = (error, None if error else decode(request.api.response, request.version, body))
        if len(answers) == len(parts):
            on_answers({index: answers[index] for index in parts})

    for index, part in parts.items():
        body = encode(part, request.version)
        gateway.coordinators.ask(index, request, body, partial(take, index))


HANDLERS = {
    apis.OFFSET_FETCH: offset_fetch,
    apis.DESCRIBE_GROUPS: describe_groups,
    apis.LIST_GROUPS: list_groups,
    apis.DELETE_GROUPS: delete_groups,
    apis.CONSUMER_GROUP_DESCRIBE: consumer_group_describe,
}
