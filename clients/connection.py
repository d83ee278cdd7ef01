"""One blocking connection to a broker: correlation, timeouts and the versions both sides know.

    connection = Connection("127.0.0.1:9092")          # or "[::1]:9092", or "unix:/path"
    response = connection.request(METADATA, MetadataRequest(topics=None))

`send` and `receive` are the two halves of `request`, for whoever keeps several requests in flight:
answers come in the order of the requests. After an UnreachableError or a ProtocolError the connection is
closed and of no more use.
"""

import socket
import time
from collections import deque
from typing import TypeVar

from msgspec import Struct

from tailrace.core import errors
from tailrace.core.errors import KafkaError, ProtocolError
from tailrace.core.protocol.apis import API_VERSIONS, APIS
from tailrace.core.protocol.compile import decoder, encoder
from tailrace.core.protocol.frames import parse_response_header, request_frame
from tailrace.core.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from tailrace.core.protocol.schema import NEWEST

DEFAULT_PORT = 9092
DEFAULT_TIMEOUT_S = 30.0
CLIENT_ID = "tailrace"
RESPONSE_BYTES_MAX = 2**30
_CHUNK_BYTES = (
    2**20
)  # most that is asked of the socket at a time: memory grows with what arrives, not what is claimed

R = TypeVar("R", bound=Struct)


class UnreachableError(Exception):
    """No broker answers there, or it stopped answering: one line."""


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`, `host`, `[ipv6]:port` (else ValueError); -1: of `unix:/path`."""
    if address.startswith("unix:"):
        return address[5:].removeprefix("//"), -1
    address = address.removeprefix("PLAINTEXT://")
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{address!r} is no address: [ipv6]:port is expected")
        port = rest[1:]
    elif address.count(":") > 1:
        host, port = address, ""
    else:
        host, _, port = address.partition(":")
    if not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise ValueError(f"{address!r} is no address: host:port is expected")
    return host, int(port) if port else DEFAULT_PORT


class Connection:
    """A connection whose versions are agreed on."""

    def __init__(
        self, address: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, client_id: str = CLIENT_ID
    ) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self._client_id = client_id
        self._correlation_id = 0
        self._in_flight: deque[tuple[int, int, int]] = deque()  # correlation id, api key, version
        self._socket = self._connect()
        self._ranges: dict[int, tuple[int, int]] = {}
        try:
            self._negotiate()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return self._socket.fileno() >= 0

    @property
    def in_flight(self) -> int:
        """Requests without an answer so far."""
        return len(self._in_flight)

    def close(self) -> None:
        """Close the socket; what is in flight is lost."""
        self._socket.close()
        self._in_flight.clear()

    def version(self, api_key: int, highest: int = NEWEST) -> int:
        """The highest version that both sides know, up to a limit; KafkaError(UNSUPPORTED_VERSION) when there
        is none.
        """
        api = APIS[api_key]
        first, last = self._ranges.get(api_key, (0, -1))
        version = min(last, api.max_version, highest)
        if version < max(first, api.min_decodable):
            raise KafkaError(errors.UNSUPPORTED_VERSION, f"{self.address} serves no {api.name} that we know")
        return version

    def request(
        self,
        api_key: int,
        message: Struct,
        response: type[R],
        *,
        timeout_s: float | None = None,
        highest: int = NEWEST,
    ) -> R:
        """Send a request, in no version above `highest`, and wait for its answer; nothing else may be in
        flight.
        """
        assert not self._in_flight, "with several in flight, receive tells the answers apart"
        self.send(api_key, message, version=self.version(api_key, highest))
        return self.receive(response, timeout_s=timeout_s)

    def send(self, api_key: int, message: Struct, *, version: int = -1, answered: bool = True) -> None:
        """Send a request; `answered` is False for Produce with acks 0 alone."""
        api = APIS[api_key]
        if version < 0:
            version = self.version(api_key)
        self._correlation_id = (self._correlation_id + 1) & 0x7FFFFFFF
        pieces = encoder(type(message), version)(message)
        frame = request_frame(api, version, self._correlation_id, self._client_id, pieces)
        self._send_all(b"".join(frame))
        if answered:
            self._in_flight.append((self._correlation_id, api_key, version))

    def receive(self, response: type[R], *, timeout_s: float | None = None) -> R:
        """The answer to the oldest request in flight."""
        expected, api_key, version = self._in_flight.popleft()
        body, position = self._receive_frame(
            expected, APIS[api_key].response_header_version(version), timeout_s
        )
        return self._decode(response, version, body, position)

    def _decode(self, response: type[R], version: int, body: bytes, position: int) -> R:
        try:
            return decoder(response, version)(body, position, len(body), memoryview(body))
        except ProtocolError:
            self.close()
            raise

    def _connect(self) -> socket.socket:
        try:
            host, port = parse_address(self.address)
        except ValueError as error:
            raise UnreachableError(str(error)) from error
        try:
            if port < 0:
                connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    connected.settimeout(self.timeout_s)
                    connected.connect(host)
                except BaseException:
                    connected.close()
                    raise
                return connected
            connected = socket.create_connection((host, port), timeout=self.timeout_s)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connected
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise UnreachableError(f"cannot reach {self.address}: {why}") from error

    def _negotiate(self) -> None:
        """ApiVersions, again in a lower version when the broker does not know ours, as KIP-511 has it."""
        version = APIS[API_VERSIONS].max_version
        while True:
            question = ApiVersionsRequest("tailrace", "0.1.0")
            self.send(API_VERSIONS, question, version=version)
            expected, _, _ = self._in_flight.popleft()
            body, position = self._receive_frame(expected, 0, None)
            unknown = body[position : position + 2] == errors.UNSUPPORTED_VERSION.to_bytes(2, "big")
            answer = self._decode(ApiVersionsResponse, 0 if unknown else version, body, position)
            if not unknown:
                break
            known = [api.max_version for api in answer.api_keys if api.api_key == API_VERSIONS]
            lower = min(*known, version - 1) if known else 0
            if version == 0 or lower < 0:
                raise KafkaError(
                    errors.UNSUPPORTED_VERSION, f"{self.address} knows no version of ApiVersions"
                )
            version = lower
        if answer.error_code:
            raise KafkaError(answer.error_code, f"{self.address} refused ApiVersions")
        self._ranges = {api.api_key: (api.min_version, api.max_version) for api in answer.api_keys}

    def _send_all(self, frame: bytes) -> None:
        self._socket.settimeout(self.timeout_s)
        try:
            self._socket.sendall(frame)
        except OSError as error:
            self.close()
            raise self._lost(error) from error

    def _receive_frame(
        self, expected: int, header_version: int, timeout_s: float | None
    ) -> tuple[bytes, int]:
        deadline_s = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        try:
            size = int.from_bytes(self._receive_exactly(4, deadline_s), "big", signed=True)
            if not 4 <= size <= RESPONSE_BYTES_MAX:
                raise ProtocolError(
                    f"{self.address} announced a response of {size} bytes: not a Kafka broker?"
                )
            body = self._receive_exactly(size, deadline_s)
            correlation_id, position = parse_response_header(body, 0, size, header_version)
            if correlation_id != expected:
                raise ProtocolError(f"{self.address} answered request {correlation_id}, not {expected}")
        except OSError as error:
            self.close()
            raise self._lost(error) from error
        except (ProtocolError, UnreachableError):
            self.close()
            raise
        return body, position

    def _receive_exactly(self, size: int, deadline_s: float) -> bytes:
        chunks: list[bytes] = []
        while size:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._socket.settimeout(left_s)
            chunk = self._socket.recv(min(size, _CHUNK_BYTES))
            if not chunk:
                raise UnreachableError(f"{self.address} closed the connection")
            chunks.append(chunk)
            size -= len(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _lost(self, error: OSError) -> UnreachableError:
        if isinstance(error, TimeoutError):
            return UnreachableError(f"{self.address} does not answer in time")
        return UnreachableError(f"lost {self.address}: {error.strerror or error}")
