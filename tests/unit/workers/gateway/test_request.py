"""An answer that cannot be encoded ends its connection, not the gateway."""

from typing import Any, cast

import pytest

from tailrace.core.protocol.apis import APIS, DESCRIBE_CONFIGS
from tailrace.core.protocol.messages.describe_configs import (
    DescribeConfigsResponse,
    DescribeConfigsResponseResult,
)
from tailrace.workers.gateway.request import Request


class Ended:
    """A connection that notes what was ended and answered."""

    def __init__(self) -> None:
        self.hung_up: list[Request | None] = []
        self.answered: list[Request] = []

    def hang_up(self, request: Request | None) -> None:
        """The request ended it."""
        self.hung_up.append(request)

    def on_answered(self, request: Request) -> None:
        """The request has its answer."""
        self.answered.append(request)


def test_an_answer_that_cannot_be_encoded_ends_its_connection_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """(R) It may be given long after the request, from the loop: what it raised there ended the gateway."""
    connection = Ended()
    request = Request(cast("Any", connection), APIS[DESCRIBE_CONFIGS], 1, 7, None, 0, 0)
    long = DescribeConfigsResponseResult(resource_name="x" * 40_000)
    request.respond(DescribeConfigsResponse(results=[long]))
    assert connection.hung_up == [request]
    assert not connection.answered
    assert "no answer to DescribeConfigs version 1" in capsys.readouterr().err
