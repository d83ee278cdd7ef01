"""Connections are bounded as Kafka bounds them, with real processes and real sockets.

All of it but the Unix socket holds for Apache Kafka too; it was compared with 4.3.1 by hand.
"""

import contextlib
import socket
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from perf import wire
from perf.peers.tailrace import Tailrace
from tailrace.clients.connection import Connection
from tailrace.core.errors import INVALID_REQUEST, NONE
from tailrace.core.protocol.apis import APIS
from tests.support.config_cases import BROKER, DELETE, alter, changed, of
from tests.support.waiting import wait_until

VERSIONS = wire.frame((18, 0), b"", flexible=False)
PATIENCE_S = 20.0

Dial = Callable[[str], socket.socket]


@contextlib.contextmanager
def started(path: Path, settings: dict[str, str] | None = None) -> Generator[Tailrace, None, None]:
    """A broker of our own."""
    broker = Tailrace(path, {"workers.max": "4", **(settings or {})})
    broker.start()
    try:
        assert broker.bootstrap
        yield broker
    finally:
        broker.stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Tailrace]:
    """One with Kafka's defaults."""
    with started(tmp_path) as running:
        yield running


@pytest.fixture
def dial() -> Iterator[Dial]:
    """Clients that have asked a first question; closed at the end."""
    with contextlib.ExitStack() as stack:

        def dial_one(bootstrap: str) -> socket.socket:
            client = stack.enter_context(socket.create_connection(wire.address(bootstrap), PATIENCE_S))
            client.sendall(VERSIONS)
            client.setblocking(False)
            return client

        yield dial_one


class Admin:
    """One connection by the Unix socket, which is there from before the bounds."""

    def __init__(self, broker: Tailrace) -> None:
        self._connection = Connection(f"unix:{broker.endpoints()['unix']}")

    def set(self, key: str, value: str | None) -> tuple[int, str]:
        """Alter a key of the cluster; code and sentence."""
        change = changed(key, value, 0 if value is not None else DELETE)
        _, api, version, message = alter("set", of(BROKER, "", change))
        self._connection.send(api, message, version=version)
        answer: Any = self._connection.receive(APIS[api].response)
        return answer.responses[0].error_code, answer.responses[0].error_message or ""

    def close(self) -> None:
        """Leave."""
        self._connection.close()


@pytest.fixture
def admin(broker: Tailrace) -> Iterator[Admin]:
    """Who alters."""
    one = Admin(broker)
    yield one
    one.close()


def is_answered(client: socket.socket) -> bool:
    """Whether there is an answer by now; closed is none."""
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return False


def is_closed(client: socket.socket) -> bool:
    """Whether the broker closed it, perhaps after an answer."""
    try:
        while client.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return True


def is_served(bootstrap: str) -> bool:
    """Whether a new client gets an answer, or is closed."""
    try:
        with wire.Connection(wire.address(bootstrap)) as client:
            return bool(client.ask(VERSIONS))
    except ConnectionError:
        return False


def take(client: socket.socket) -> None:
    """Wait for the answer and read it."""
    wait_until(lambda: is_answered(client), "an answer")
    client.recv(1 << 16)


def test_beyond_max_connections_clients_wait_and_are_served_when_one_goes(
    broker: Tailrace, admin: Admin, dial: Dial
) -> None:
    assert admin.set("max.connections", "3") == (NONE, "")
    clients = [dial(broker.bootstrap) for _ in range(4)]
    for client in clients[:2]:
        take(client)
    clients[0].setblocking(True)
    clients[0].sendall(VERSIONS)  # answered after whatever comes to those before it
    assert clients[0].recv(1, socket.MSG_PEEK)
    assert not is_answered(clients[2])
    assert not is_closed(clients[2])
    clients[1].close()
    wait_until(lambda: is_answered(clients[2]), "room for the third")
    assert not is_answered(clients[3])
    assert admin.set("max.connections", None) == (NONE, "")
    wait_until(lambda: is_answered(clients[3]), "the bound to be taken back")


def test_a_lower_bound_closes_those_that_were_silent_for_longest(
    broker: Tailrace, admin: Admin, dial: Dial
) -> None:
    clients = [dial(broker.bootstrap) for _ in range(4)]
    for client in clients:
        take(client)
    later = time.monotonic() + 0.01
    while time.monotonic() < later:  # the broker counts milliseconds
        clients[0].sendall(VERSIONS)  # it is no longer the one that was silent for longest
        take(clients[0])
    assert admin.set("max.connections", "2") == (NONE, "")
    wait_until(lambda: all(is_closed(client) for client in clients[1:]), "three to be closed")
    assert not is_closed(clients[0])
    clients[0].sendall(VERSIONS)
    take(clients[0])


def test_an_address_with_too_many_connections_gets_no_more(
    broker: Tailrace, admin: Admin, dial: Dial
) -> None:
    assert admin.set("max.connections.per.ip", "2") == (NONE, "")
    clients = [dial(broker.bootstrap) for _ in range(2)]
    for client in clients:
        take(client)
    wait_until(lambda: not is_served(broker.bootstrap), "a third to be closed")
    assert not is_closed(clients[0])
    assert admin.set("max.connections.per.ip.overrides", "localhost:1,127.0.0.1:3") == (NONE, "")
    wait_until(lambda: is_served(broker.bootstrap), "an exception for this address")
    Connection(f"unix:{broker.endpoints()['unix']}").close()  # has no address


def test_an_exception_may_name_a_host(tmp_path: Path) -> None:
    bounds = {"max.connections.per.ip": "0", "max.connections.per.ip.overrides": "localhost:1000"}
    with started(tmp_path, bounds) as broker:
        wait_until(lambda: is_served(broker.bootstrap), "the name to be known")


def test_new_connections_come_at_the_rate_that_is_set(broker: Tailrace, admin: Admin, dial: Dial) -> None:
    assert admin.set("max.connection.creation.rate", "2") == (NONE, "")
    clients = [dial(broker.bootstrap) for _ in range(40)]
    take(clients[0])
    wait_until(lambda: is_answered(clients[19]), "the burst")
    assert not is_answered(clients[-1]), "they would need 10 s"
    assert not is_closed(clients[-1])
    assert admin.set("max.connection.creation.rate", None) == (NONE, "")
    wait_until(lambda: is_answered(clients[-1]), "the rate to be taken back")


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("max.connections.per.ip", "0", "requirement failed: max.connections.per.ip can be set to zero only"),
        ("max.connections.per.ip.overrides", "x", "Error parsing configuration property"),
        ("max.connections.per.ip.overrides", "127.0.0.1:x", 'For input string: "x"'),
        ("max.connections.per.ip.overrides", "a b:1", "contains invalid addresses : a b"),
        ("max.connection.creation.rate", "0", "Invalid value"),
        ("max.connections", "-1", "Value must be at least 0"),
    ],
)
def test_bounds_that_kafka_refuses_are_refused(admin: Admin, key: str, value: str, sentence: str) -> None:
    code, told = admin.set(key, value)
    assert code == INVALID_REQUEST
    assert sentence in told


def test_idle_connections_are_closed_and_those_that_are_used_are_not(tmp_path: Path, dial: Dial) -> None:
    with started(tmp_path, {"connections.max.idle.ms": "1000"}) as broker:
        used, silent, idle = dial(broker.bootstrap), dial(broker.bootstrap), dial(broker.bootstrap)
        half = socket.create_connection(wire.address(broker.bootstrap), PATIENCE_S)
        half.sendall(VERSIONS[:9])
        half.setblocking(False)
        take(used)
        take(idle)

        def are_closed() -> bool:
            used.setblocking(True)
            used.sendall(VERSIONS)
            assert used.recv(1 << 16), "closed although it was used"
            used.setblocking(False)
            return is_closed(idle) and is_closed(silent) and is_closed(half)

        wait_until(are_closed, "the idle ones to be closed")
        half.close()


def test_requests_larger_than_allowed_end_their_connection(tmp_path: Path, dial: Dial) -> None:
    bounds = {"socket.request.max.bytes": "1000", "queued.max.request.bytes": "1000"}
    with started(tmp_path, bounds) as broker:
        good, bad = dial(broker.bootstrap), dial(broker.bootstrap)
        bad.sendall((1001).to_bytes(4) + bytes(10))
        wait_until(lambda: is_closed(bad), "the connection to be closed")
        take(good)


def test_all_requests_together_may_take_no_more_memory_than_allowed(tmp_path: Path) -> None:
    size = 5 << 20
    bounds = {"socket.request.max.bytes": str(size), "queued.max.request.bytes": str(size)}
    with started(tmp_path, bounds) as broker, contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(wire.address(broker.bootstrap), PATIENCE_S))
            for _ in range(8)
        ]
        for client in clients:
            client.setblocking(False)
        head = size.to_bytes(4) + bytes.fromhex("00000003000000010000")
        sent = [client.send(head) for client in clients]
        piece = bytes(1 << 16)

        def is_stuck() -> bool:
            before = sum(sent)
            for number, client in enumerate(clients):
                with contextlib.suppress(BlockingIOError, ConnectionResetError, BrokenPipeError):
                    if sent[number] + len(piece) < size:
                        sent[number] += client.send(piece)
            return sum(sent) == before

        wait_until(is_stuck, "the broker to read no more")
        with wire.Connection(broker.endpoints()["tcp"]) as good:
            good.ask(VERSIONS)
