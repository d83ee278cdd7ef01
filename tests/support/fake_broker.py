"""A broker in a thread, for tests of the clients: a dict of logs behind core's codec, with faults on demand.

One partition leader, no files. `faults[api_key]` is a list of what the next requests of that kind meet: an
error code for every partition or topic in the answer, CLOSE (the connection ends without one) or SILENT (none
comes).
"""

import socket
import socketserver
import threading
from collections.abc import Callable
from typing import Any, Self, cast

from msgspec import Struct

from tailrace.core import errors
from tailrace.core.protocol import apis
from tailrace.core.protocol.compile import decoder, encoder
from tailrace.core.protocol.frames import parse_request_header, response_frame
from tailrace.core.protocol.messages import create_topics as create
from tailrace.core.protocol.messages import delete_topics as delete
from tailrace.core.protocol.messages import fetch, list_offsets, metadata, produce
from tailrace.core.protocol.messages.api_versions import ApiVersionsResponse, ApiVersionsResponseApi
from tailrace.core.records.batch import parse_header, stamp

CLOSE = "close"
SILENT = "silent"
NODE_ID = 7

Fault = int | str


class FakeBroker:
    """Listens on a free port of 127.0.0.1 (or on a Unix socket) until closed."""

    def __init__(self, *, unix: str | None = None, versions: dict[int, int] | None = None) -> None:
        self.topics: dict[str, list[bytearray]] = {}
        self.starts: dict[tuple[str, int], int] = {}
        self.faults: dict[int, list[Fault]] = {}
        self.requests: list[tuple[int, int, Struct]] = []  # api key, version, message
        self.auto_partitions = 1
        self.correlation_shift = 0
        self._highest = versions or {}
        self._lock = threading.Lock()
        broker = self

        class Handler(socketserver.BaseRequestHandler):
            """One connection."""

            def handle(self) -> None:
                """Answer requests in order until the client leaves."""
                broker.serve(self.request)

        kind = socketserver.ThreadingTCPServer if unix is None else socketserver.ThreadingUnixStreamServer
        kind.daemon_threads = True
        kind.block_on_close = False
        self._server = cast(Any, kind)(unix or ("127.0.0.1", 0), Handler)
        self.address = f"unix:{unix}" if unix else f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add_topic(self, name: str, partitions: int = 1) -> None:
        """A topic with empty partitions."""
        self.topics[name] = [bytearray() for _ in range(partitions)]

    def messages(self, api_key: int) -> list[Any]:
        """What was asked, of one kind."""
        return [message for key, _, message in self.requests if key == api_key]

    def serve(self, connection: socket.socket) -> None:
        """Answer one connection's requests."""
        with connection:
            while True:
                size = _exactly(connection, 4)
                frame = _exactly(connection, int.from_bytes(size, "big")) if size else b""
                if not frame:
                    return
                with self._lock:
                    answer = self._answer(frame)
                if answer is None:
                    return
                connection.sendall(answer)

    def _answer(self, frame: bytes) -> bytes | None:
        """The response frame; empty for none, None to close."""
        key, version, correlation_id, _, position = parse_request_header(frame, 0, len(frame))
        api = apis.APIS[key]
        faults = self.faults.get(key, [])
        fault = faults.pop(0) if faults else errors.NONE
        if isinstance(fault, str):
            return None if fault == CLOSE else b""
        if key == apis.API_VERSIONS and version > self._last(api):
            version = 0
            response: Struct = ApiVersionsResponse(errors.UNSUPPORTED_VERSION, [self._range(api)])
        else:
            message = decoder(api.request, version)(frame, position, len(frame), memoryview(frame))
            self.requests.append((key, version, message))
            answer = self._handlers[key](self, message, fault)
            if answer is None:
                return b""
            response = answer
        pieces = encoder(type(response), version)(response)
        shifted = correlation_id + self.correlation_shift
        return b"".join(response_frame(shifted, api.response_header_version(version), pieces))

    def _last(self, api: apis.Api) -> int:
        return self._highest.get(api.key, api.max_version)

    def _range(self, api: apis.Api) -> ApiVersionsResponseApi:
        return ApiVersionsResponseApi(api.key, api.min_version, self._last(api))

    def _api_versions(self, _: Any, fault: int) -> Struct:
        ranges = [self._range(api) for api in apis.APIS.values() if self._last(api) >= 0]
        return ApiVersionsResponse(fault, ranges)

    def _metadata(self, request: metadata.MetadataRequest, fault: int) -> Struct:
        names = (
            list(self.topics) if request.topics is None else [topic.name or "" for topic in request.topics]
        )
        if request.allow_auto_topic_creation and request.topics is not None and not fault:
            for name in names:
                if name not in self.topics:
                    self.add_topic(name, self.auto_partitions)
        host, port = "127.0.0.1", 1
        if not self.address.startswith("unix:"):
            port = int(self.address.rpartition(":")[2])
        node = metadata.MetadataResponseBroker(NODE_ID, host, port)
        found = [self._topic(name, fault) for name in names]
        return metadata.MetadataResponse(0, [node], "cluster", NODE_ID, found)

    def _topic(self, name: str, fault: int) -> metadata.MetadataResponseTopic:
        code = fault or (errors.NONE if name in self.topics else errors.UNKNOWN_TOPIC_OR_PARTITION)
        partitions = [
            metadata.MetadataResponsePartition(0, index, NODE_ID, 0, [NODE_ID], [NODE_ID])
            for index in range(0 if code else len(self.topics[name]))
        ]
        return metadata.MetadataResponseTopic(code, name, topic_id(name), False, partitions)

    def _produce(self, request: produce.ProduceRequest, fault: int) -> Struct | None:
        answers: list[produce.ProduceResponseTopic] = []
        for topic in request.topic_data:
            name = self._name(topic.name, topic.topic_id)
            parts: list[produce.ProduceResponsePartition] = []
            for part in topic.partition_data:
                base = (
                    -1 if fault else self._append(self.topics[name][part.index], bytes(part.records or b""))
                )
                parts.append(produce.ProduceResponsePartition(part.index, fault, base))
            answers.append(produce.ProduceResponseTopic(topic.name, topic.topic_id, parts))
        return produce.ProduceResponse(answers) if request.acks else None

    def _append(self, log: bytearray, records: bytes) -> int:
        base = end_offset(log)
        batch = bytearray(records)
        stamp(batch, base, 0)
        log += batch
        return base

    def _fetch(self, request: fetch.FetchRequest, fault: int) -> Struct:
        answers: list[fetch.FetchResponseTopic] = []
        for topic in request.topics:
            name = self._name(topic.topic, topic.topic_id)
            parts = [self._read(name, wanted, fault) for wanted in topic.partitions]
            answers.append(fetch.FetchResponseTopic(topic.topic, topic.topic_id, parts))
        return fetch.FetchResponse(responses=answers)

    def _read(
        self, name: str, wanted: fetch.FetchRequestPartition, fault: int
    ) -> fetch.FetchResponsePartition:
        log, start = self.topics[name][wanted.partition], self.starts.get((name, wanted.partition), 0)
        end = end_offset(log)
        if not fault and not start <= wanted.fetch_offset <= end:
            fault = errors.OFFSET_OUT_OF_RANGE
        position = next((at for at, last in batches(log) if last >= wanted.fetch_offset), len(log))
        first = parse_header(log, position).size if position < len(log) else 0  # is whole, as Kafka's
        data = b"" if fault else bytes(log[position : position + max(wanted.partition_max_bytes, first)])
        return fetch.FetchResponsePartition(
            wanted.partition, fault, end, end, start, records=memoryview(data)
        )

    def _list_offsets(self, request: list_offsets.ListOffsetsRequest, fault: int) -> Struct:
        answers: list[list_offsets.ListOffsetsResponseTopic] = []
        for topic in request.topics:
            parts: list[list_offsets.ListOffsetsResponsePartition] = []
            for part in topic.partitions:
                offset = self._offset_at(topic.name, part.partition_index, part.timestamp)
                parts.append(
                    list_offsets.ListOffsetsResponsePartition(part.partition_index, fault, -1, offset)
                )
            answers.append(list_offsets.ListOffsetsResponseTopic(topic.name, parts))
        return list_offsets.ListOffsetsResponse(0, answers)

    def _offset_at(self, name: str, partition: int, timestamp: int) -> int:
        log = self.topics[name][partition]
        if timestamp == list_offsets.LATEST:
            return end_offset(log)
        if timestamp == list_offsets.EARLIEST:
            return self.starts.get((name, partition), 0)
        headers = (parse_header(log, at) for at, _ in batches(log))
        return next((header.base_offset for header in headers if header.max_timestamp >= timestamp), -1)

    def _create(self, request: create.CreateTopicsRequest, fault: int) -> Struct:
        answers: list[create.CreateTopicsResponseTopic] = []
        for topic in request.topics:
            code = fault or (errors.TOPIC_ALREADY_EXISTS if topic.name in self.topics else errors.NONE)
            count = max(topic.num_partitions, 1)
            if not code and not request.validate_only:
                self.add_topic(topic.name, count)
            said = "no\nfor two lines" if code else None
            answers.append(
                create.CreateTopicsResponseTopic(topic.name, topic_id(topic.name), code, said, 0, count, 1)
            )
        return create.CreateTopicsResponse(0, answers)

    def _delete(self, request: delete.DeleteTopicsRequest, fault: int) -> Struct:
        names = [topic.name or "" for topic in request.topics] or request.topic_names
        answers: list[delete.DeleteTopicsResponseTopic] = []
        for name in names:
            gone = self.topics.pop(name, None)
            code = fault or (errors.UNKNOWN_TOPIC_OR_PARTITION if gone is None else errors.NONE)
            answers.append(delete.DeleteTopicsResponseTopic(name, topic_id(name), code))
        return delete.DeleteTopicsResponse(0, answers)

    def _name(self, name: str, identity: bytes) -> str:
        return name or next(known for known in self.topics if topic_id(known) == identity)

    _handlers: dict[int, Callable[["FakeBroker", Any, int], Struct | None]] = {  # noqa: RUF012 - never changed
        apis.API_VERSIONS: _api_versions,
        apis.METADATA: _metadata,
        apis.PRODUCE: _produce,
        apis.FETCH: _fetch,
        apis.LIST_OFFSETS: _list_offsets,
        apis.CREATE_TOPICS: _create,
        apis.DELETE_TOPICS: _delete,
    }


def topic_id(name: str) -> bytes:
    """A made-up id that goes with a name."""
    return name.encode().ljust(16, b"\1")[:16]


def batches(log: bytearray) -> list[tuple[int, int]]:
    """Position and last offset of every batch."""
    found: list[tuple[int, int]] = []
    position = 0
    while position < len(log):
        header = parse_header(log, position)
        found.append((position, header.last_offset))
        position += header.size
    return found


def end_offset(log: bytearray) -> int:
    """The offset of the next record."""
    known = batches(log)
    return known[-1][1] + 1 if known else 0


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        try:
            chunk = connection.recv(size - len(data))
        except OSError:
            return b""
        if not chunk:
            return b""
        data += chunk
    return data
