"""Frames as bytes, sent to any broker; what it does on the wire, with what differs by nature left out."""

import re
import socket
import struct
from typing import Any, cast

import msgspec
from msgspec import Struct

from perf import wire
from tailrace.core.errors import ProtocolError
from tailrace.core.protocol.apis import API_VERSIONS, APIS, DELETE_RECORDS, LIST_OFFSETS, PRODUCE
from tailrace.core.protocol.compile import decoder, encoder
from tailrace.core.protocol.frames import parse_response_header, request_frame

CLOSED = "closed"
SILENT = "no answer"
PATIENCE_S = 20.0
UNORDERED = (PRODUCE, LIST_OFFSETS, DELETE_RECORDS)  # Kafka answers in the order of a hash
PROBE_ID = 0x7FFF_0000
EPOCH_AT = slice(12, 16)
_LONG_NUMBER = re.compile(r"\d{12,}")  # a time in ms

Outcome = dict[str, Any] | str


class RawClient:
    """One connection; after CLOSED it dials again for the next frame."""

    def __init__(self, address: str) -> None:
        self._address = wire.address(address)
        self._socket: socket.socket | None = None
        self.last = b""  # the last answer, without its size

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def send(self, frame: bytes) -> None:
        """Send bytes."""
        if self._socket is None:
            self._socket = socket.create_connection(self._address, PATIENCE_S)
        self._socket.sendall(frame)

    def receive(self) -> bytes | None:
        """The next answer without its size; None when the broker closed."""
        head = self._receive_exactly(4)
        body = None if head is None else self._receive_exactly(int.from_bytes(head))
        if body is None:
            self.close()
        else:
            self.last = body
        return body

    def _receive_exactly(self, size: int) -> bytes | None:
        assert self._socket is not None
        data = b""
        while len(data) < size:
            try:
                got = self._socket.recv(size - len(data))
            except ConnectionResetError:
                return None
            if not got:
                return None
            data += got
        return data

    def ask(self, key: int, version: int, message: Struct | bytes, **header: Any) -> Outcome:
        """What the broker does with one request: its answer as plain data, or that it closes."""
        correlation_id = header.setdefault("correlation_id", 7)
        self.send(framed(key, version, message, **header))
        answer = self.receive()
        return CLOSED if answer is None else plain(key, version, answer, correlation_id)

    def tell(self, key: int, version: int, message: Struct | bytes) -> str:
        """Whether a request that gets no answer (acks=0) closes the connection."""
        self.send(framed(key, version, message))
        self.send(framed(API_VERSIONS, 0, b"", correlation_id=PROBE_ID))
        answer = self.receive()
        if answer is None:
            return CLOSED
        assert int.from_bytes(answer[:4]) == PROBE_ID
        return SILENT


def framed(
    key: int,
    version: int,
    message: Struct | bytes,
    *,
    correlation_id: int = 7,
    client_id: str | None = "raw",
    tags: bytes = b"\0",
    trailing: bytes = b"",
) -> bytes:
    """A request; `tags` are those of its header, if its version has any."""
    body = message if isinstance(message, bytes) else b"".join(encoder(type(message), version)(message))
    api = APIS.get(key)
    if api is None or not api.serves(version):
        flexible = api is not None and version >= api.flexible_since
        name = struct.pack(">h", -1) if client_id is None else wire.string(client_id)
        body = struct.pack(">hhi", key, version, correlation_id) + name + (tags if flexible else b"") + body
        return struct.pack(">i", len(body) + len(trailing)) + body + trailing
    whole = b"".join(request_frame(api, version, correlation_id, client_id, [bytearray(body + trailing)]))
    if tags == b"\0" or version < api.flexible_since:
        return whole
    at = len(whole) - len(body) - len(trailing)
    whole = whole[4 : at - 1] + tags + whole[at:]
    return struct.pack(">i", len(whole)) + whole


def plain(key: int, version: int, answer: bytes, correlation_id: int) -> dict[str, Any]:
    """Every field of an answer, and its size, which tells of what is encoded in two ways."""
    api = APIS[key]
    if key == API_VERSIONS and answer[4:6] == b"\0\x23":
        version = 0  # what unknown versions are answered in
    found, position = parse_response_header(answer, 0, len(answer), api.response_header_version(version))
    assert found == correlation_id
    if not api.serves(version):
        return {"bytes": answer[position:].hex()}
    try:
        message = decoder(api.response, version)(answer, position, len(answer), memoryview(answer))
    except ProtocolError as error:
        raise AssertionError(f"{api.name} v{version}: {error}: {answer.hex()}") from error
    fields: dict[str, Any] = _masked("", msgspec.to_builtins(message, builtin_types=(bytes, memoryview)))
    if key in UNORDERED:
        _sort(fields)
    return fields | {"size": len(answer)}


def _sort(value: object) -> None:
    if isinstance(value, dict):
        for part in cast("dict[str, object]", value).values():
            _sort(part)
    elif isinstance(value, list):
        parts = cast("list[object]", value)
        for part in parts:
            _sort(part)
        parts.sort(key=repr)


def _masked(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {part: _masked(part, inner) for part, inner in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_masked(name, part) for part in cast("list[object]", value)]
    if isinstance(value, memoryview):
        value = cast("memoryview[int]", value).tobytes()
    if name == "records" and value:
        return value[: EPOCH_AT.start].hex() + "epoch" + value[EPOCH_AT.stop :].hex()
    if isinstance(value, bytes):
        return "some id" if any(value) else "none"
    if isinstance(value, str) and name != "cluster_id":
        return _LONG_NUMBER.sub("*", value)
    if name == "log_append_time_ms" and value != -1:
        return "*"
    if (name == "session_id" and value) or name in ("port", "cluster_id"):
        return "*"
    return value
