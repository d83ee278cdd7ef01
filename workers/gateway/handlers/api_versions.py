"""ApiVersions: which requests this broker serves. An unknown version is answered, in version 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.errors import INVALID_REQUEST
from tailrace.core.protocol.apis import api_versions_response
from tailrace.core.protocol.messages.api_versions import ApiVersionsResponse, names_software

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request


def handle(_gateway: Gateway, request: Request) -> None:
    """Answer from the table of APIs."""
    if request.api.serves(request.version) and not names_software(request.decode(), request.version):
        request.respond(ApiVersionsResponse(INVALID_REQUEST))
        return
    version, response = api_versions_response(request.version)
    request.respond_at(response, version)
