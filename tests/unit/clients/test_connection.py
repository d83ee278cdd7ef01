"""One connection: addresses, versions, correlation, and how it ends."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.clients.connection import Connection, UnreachableError, parse_address
from tailrace.core import errors
from tailrace.core.errors import KafkaError, ProtocolError
from tailrace.core.protocol.apis import API_VERSIONS, CREATE_TOPICS, METADATA
from tailrace.core.protocol.messages.metadata import MetadataRequest, MetadataResponse
from tests.support.fake_broker import CLOSE, SILENT, FakeBroker


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    """A broker with one topic."""
    with FakeBroker() as fake:
        fake.add_topic("t", 2)
        yield fake


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("host:1", ("host", 1)),
        ("host", ("host", 9092)),
        ("[::1]:5", ("::1", 5)),
        ("[::1]", ("::1", 9092)),
        ("::1", ("::1", 9092)),
        ("PLAINTEXT://host:1", ("host", 1)),
        ("unix:/run/x", ("/run/x", -1)),
        ("unix:///run/x", ("/run/x", -1)),
    ],
)
def test_addresses(address: str, expected: tuple[str, int]) -> None:
    assert parse_address(address) == expected


@pytest.mark.parametrize("address", ["", ":1", "host:x", "host:0", "host:70000", "[::1", "[::1]x"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        parse_address(address)
    with pytest.raises(UnreachableError, match="is no address"):
        Connection(address)


def test_the_highest_common_version_is_spoken(broker: FakeBroker) -> None:
    with Connection(broker.address) as connection:
        assert connection.version(METADATA) == 13
        response = connection.request(METADATA, MetadataRequest(None), MetadataResponse)
    assert [len(topic.partitions) for topic in response.topics] == [2]


def test_an_older_broker_is_spoken_to_in_its_versions() -> None:
    with FakeBroker(versions={API_VERSIONS: 2, METADATA: 5, CREATE_TOPICS: -1}) as broker:
        with Connection(broker.address) as connection:
            assert connection.version(METADATA) == 5
            connection.request(METADATA, MetadataRequest(None), MetadataResponse)
            with pytest.raises(KafkaError) as caught:
                connection.version(CREATE_TOPICS)
        assert caught.value.code == errors.UNSUPPORTED_VERSION
        assert [version for key, version, _ in broker.requests if key == METADATA] == [5]


def test_several_requests_in_flight_are_answered_in_order(broker: FakeBroker) -> None:
    with Connection(broker.address) as connection:
        for request in (MetadataRequest(None), MetadataRequest([]), MetadataRequest(None)):
            connection.send(METADATA, request)
        assert connection.in_flight == 3
        counts = [len(connection.receive(MetadataResponse).topics) for _ in range(3)]
    assert counts == [1, 0, 1]


def test_a_unix_socket_serves_as_well(tmp_path: Path) -> None:
    with FakeBroker(unix=str(tmp_path / "s")) as broker, Connection(broker.address) as connection:
        assert connection.request(METADATA, MetadataRequest(None), MetadataResponse).cluster_id == "cluster"


def test_nobody_there_is_unreachable(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        with pytest.raises(UnreachableError, match="Connection refused"):
            Connection(f"127.0.0.1:{taken.getsockname()[1]}")
    with pytest.raises(UnreachableError, match="cannot reach unix:"):
        Connection(f"unix:{tmp_path}/none")


def test_a_broker_that_is_silent_or_leaves_is_unreachable(broker: FakeBroker) -> None:
    for fault, words in ((SILENT, "does not answer in time"), (CLOSE, "closed the connection")):
        broker.faults[METADATA] = [fault]
        connection = Connection(broker.address)
        with pytest.raises(UnreachableError, match=words):
            connection.request(METADATA, MetadataRequest(None), MetadataResponse, timeout_s=0.05)
        assert not connection.is_open


def test_an_answer_to_another_request_ends_the_connection(broker: FakeBroker) -> None:
    connection = Connection(broker.address)
    broker.correlation_shift = 1
    with pytest.raises(ProtocolError, match="answered request"):
        connection.request(METADATA, MetadataRequest(None), MetadataResponse)
    assert not connection.is_open


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x06\0\0\0\1\0\0",
        b"SSH-2.0-x\r\n",
    ],
)
def test_a_server_that_is_no_broker_is_refused_at_once(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises((ProtocolError, UnreachableError)):
            Connection(f"127.0.0.1:{server.getsockname()[1]}", timeout_s=5)
        thread.join()
