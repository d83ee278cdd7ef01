"""Frames: the size prefix and the headers before a request's or a response's body.

    request   size i32 | key i16 | version i16 | correlation id i32 | client id i16 + bytes | tags (header 2)
    response  size i32 | correlation id i32 | tags (header 1)

The client id has a classic length in both header versions.
"""

from struct import Struct
from typing import Any

from tailrace.core.errors import ProtocolError
from tailrace.core.protocol.apis import APIS, Api
from tailrace.core.protocol.primitives import MALFORMED, Source, skip_tags, too_long

CLIENT_ID_CHARACTERS_MAX = 8191  # where some were replaced: 32,764 bytes at most

RequestHeader = tuple[
    int, int, int, str | None, int
]  # api key, version, correlation id, client id, body position

_REQUEST = Struct(">hhih")
_read_request = _REQUEST.unpack_from
_response_0 = Struct(">ii").pack
_response_1 = Struct(">iix").pack
_request_frame = Struct(">ihhih").pack
_correlation = Struct(">i").unpack_from
_FLEXIBLE_SINCE = {key: api.flexible_since for key, api in APIS.items()}


def parse_request_header(buffer: Source, position: int, end: int) -> RequestHeader:
    """Read the header of the request at position (after its size).

    ProtocolError for a key nobody knows: where its header ends is unknown too. Versions are not checked:
    of ApiVersions any version is answered.
    """
    try:
        key, version, correlation_id, length = _read_request(buffer, position)
        flexible_since = _FLEXIBLE_SINCE.get(key)
        position += 10
        if position > end:
            raise too_long("the request header", 10, end - position + 10)
        if flexible_since is None:
            raise ProtocolError(f"request key {key} is not served")
        client_id = None
        if length >= 0:
            stop = position + length
            if stop > end:
                raise too_long("client id", length, end - position)
            client_id = _client_id(buffer[position:stop])
            position = stop
        if version >= flexible_since:
            tags = buffer[position]
            position += 1
            if tags:
                position = skip_tags(buffer, position, end, tags)
            if position > end:
                raise too_long("the request header", position, end)
        return key, version, correlation_id, client_id, position
    except MALFORMED as error:
        raise ProtocolError(f"request header: {error}") from error


def _client_id(data: bytes) -> str:
    """As Kafka: bytes that are no UTF-8 are replaced. (R) Each by three, and members' client ids are written
    to a log and told to clients, as strings: those are cut."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode(errors="replace")[:CLIENT_ID_CHARACTERS_MAX]


def response_frame(correlation_id: int, header_version: int, pieces: list[Any]) -> list[Any]:
    """Put the size and the header before the encoded body; the first piece is changed in place."""
    pieces[0][0:0] = response_header(correlation_id, header_version, sum(map(len, pieces)))
    return pieces


def response_header(correlation_id: int, header_version: int, body_size: int) -> bytes:
    """Size and header of a response whose encoded body has `body_size` bytes."""
    return (_response_1 if header_version else _response_0)(4 + header_version + body_size, correlation_id)


def request_frame(
    api: Api, version: int, correlation_id: int, client_id: str | None, pieces: list[Any]
) -> list[Any]:
    """Put the size and the header before an encoded request; the first piece is changed in place."""
    name = b"" if client_id is None else client_id.encode()
    tags = api.request_header_version(version) - 1
    size = 10 + len(name) + tags + sum(map(len, pieces))
    length = -1 if client_id is None else len(name)
    head = _request_frame(size, api.key, version, correlation_id, length) + name + bytes(tags)
    pieces[0][0:0] = head
    return pieces


def parse_response_header(buffer: Source, position: int, end: int, header_version: int) -> tuple[int, int]:
    """The correlation id and the position of the body of the response at position (after its size)."""
    try:
        (correlation_id,) = _correlation(buffer, position)
        position += 4
        if header_version:
            tags = buffer[position]
            position += 1
            if tags:
                position = skip_tags(buffer, position, end, tags)
    except MALFORMED as error:
        raise ProtocolError(f"response header: {error}") from error
    if position > end:
        raise ProtocolError("response header: cut off")
    return correlation_id, position
