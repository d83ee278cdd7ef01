"""One request between its frame and its answer."""

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from tailrace.core.errors import KafkaError, ProtocolError
from tailrace.core.protocol.apis import Api
from tailrace.core.protocol.compile import decoder, encoder
from tailrace.core.protocol.frames import response_frame, response_header
from tailrace.workers.say import say

if TYPE_CHECKING:
    from tailrace.workers.gateway.connection import Connection


class Request:
    """What a handler is given. It answers once, now or later, by `respond` or `respond_pieces`."""

    __slots__ = ("api", "client_id", "connection", "correlation_id", "end", "pieces", "position", "version")

    def __init__(
        self,
        connection: "Connection",
        api: Api,
        version: int,
        correlation_id: int,
        client_id: str | None,
        position: int,
        end: int,
    ) -> None:
        self.connection = connection
        self.api = api
        self.version = version
        self.correlation_id = correlation_id
        self.client_id = client_id
        self.position = position  # of the body in the connection's block, valid until the handler returns
        self.end = end
        self.pieces: list[Any] | None = None  # the answer; empty: none is to be sent

    def decode(self) -> Any:
        """The message, from a copy of its bytes. ProtocolError when it is malformed."""
        block = self.connection.block
        assert block is not None, "a request is decoded before its handler returns"
        body = block.map[self.position : self.end]
        return decoder(self.api.request, self.version)(body, 0, len(body), memoryview(body))

    def respond(self, message: Struct) -> None:
        """Answer with a message."""
        self.respond_at(message, self.version)

    def respond_at(self, message: Struct, version: int) -> None:
        """Answer with a message in another version (ApiVersions does)."""
        try:
            pieces = encoder(type(message), version)(message)
        except (
            ProtocolError,
            KafkaError,
        ) as error:  # (R) a mistake of ours, but no reason to cut off everybody
            say(f"tailrace: no answer to {self.api.name} version {version}: {error}\n")
            self.connection.hang_up(self)
            return
        header = self.api.response_header_version(version)
        self.answer(response_frame(self.correlation_id, header, pieces))

    def respond_pieces(self, pieces: list[Any]) -> None:
        """Answer with an encoded body."""
        header = self.api.response_header_version(self.version)
        self.answer(response_frame(self.correlation_id, header, pieces))

    def respond_body(self, body: bytes) -> None:
        """Answer with an encoded body of one piece."""
        header = self.api.response_header_version(self.version)
        self.answer([response_header(self.correlation_id, header, len(body)) + body])

    def answer(self, frame: list[Any]) -> None:
        """Answer with a whole frame; an empty one sends nothing (acks=0)."""
        assert self.pieces is None, "a request is answered once"
        self.pieces = frame
        self.connection.on_answered(self)
