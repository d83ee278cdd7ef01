"""Classic groups answer their members, and DescribeGroups, as Apache Kafka does: every field."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

from perf import lifecycle
from perf.peers import jars
from perf.peers.kafka import Kafka
from perf.peers.peer import Peer
from perf.peers.tailrace import Tailrace
from tailrace.core.errors import NONE
from tailrace.core.groups.coordinator import GroupCoordinator
from tailrace.core.groups.runtime import GroupConfig
from tailrace.core.protocol.apis import APIS
from tailrace.core.protocol.compile import decode, encode
from tailrace.core.protocol.frames import parse_response_header
from tailrace.core.protocol.messages.describe_groups import DescribeGroupsRequest
from tailrace.core.protocol.messages.find_coordinator import FindCoordinatorRequest
from tests.support.classic_scripts import DESCRIBE, SCRIPTS, SETTINGS, play_all
from tests.support.group_runtime import FakeRuntime
from tests.support.peers import require
from tests.support.raw_client import RawClient, framed
from tests.support.waiting import wait_until

FIND_COORDINATOR = 10
STEP_MS = 100


class OnTheWire:
    """A broker, with a connection a member."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._clients: dict[str, RawClient] = {}
        self._asked: dict[str, tuple[int, int]] = {}
        wait_until(self._has_coordinator, "the coordinator", 60)

    def close(self) -> None:
        """Hang up."""
        for client in self._clients.values():
            client.close()

    def _has_coordinator(self) -> bool:
        """The first question makes the broker create the topic that the groups are kept in."""
        keys = [f"script-{number}" for number in range(len(SCRIPTS))]
        self.send("first", FIND_COORDINATOR, 4, FindCoordinatorRequest(coordinator_keys=keys))
        self.receive("first")
        self.send("first", DESCRIBE, 5, DescribeGroupsRequest(keys))
        return {group.error_code for group in self.receive("first").groups} == {NONE}

    def send(self, connection: str, key: int, version: int, message: Struct) -> None:
        """See Coordinator."""
        client = self._clients.setdefault(connection, RawClient(self._address))
        self._asked[connection] = key, version
        client.send(framed(key, version, message))

    def receive(self, connection: str) -> Any:
        """See Coordinator."""
        key, version = self._asked[connection]
        answer = self._clients[connection].receive()
        assert answer is not None
        _, position = parse_response_header(
            answer, 0, len(answer), APIS[key].response_header_version(version)
        )
        return decode(APIS[key].response, version, answer[position:])

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """See Coordinator."""
        wait_until(condition, what)


class InMemory:
    """Ours: a coordinator whose time passes when somebody waits."""

    def __init__(self) -> None:
        config: dict[str, Any] = {name.replace(".", "_"): int(value) for name, value in SETTINGS.items()}
        self._runtime = FakeRuntime(config=GroupConfig(**config))
        self._runtime.shard = self._shard = GroupCoordinator(self._runtime)
        self._shard.on_loaded()
        self._asked: dict[str, tuple[int, int]] = {}
        self._answers: dict[str, list[Any]] = {}

    def send(self, connection: str, key: int, version: int, message: Struct) -> None:
        """See Coordinator."""
        message = decode(type(message), version, encode(message, version))
        self._asked[connection] = key, version
        self._answers[connection] = self._runtime.ask(self._shard.handle, key, version, message, "raw")
        self._runtime.advance(0)

    def receive(self, connection: str) -> Any:
        """See Coordinator."""
        answers = self._answers[connection]
        self.wait_until(lambda: bool(answers), connection)
        key, version = self._asked[connection]
        return decode(APIS[key].response, version, encode(answers[0], version))

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """See Coordinator."""
        for _ in range(100):
            if condition():
                return
            self._runtime.advance(STEP_MS)
        raise AssertionError(what)


def played_by(broker: Peer, address: Callable[[], str]) -> dict[str, list[Any]]:
    """The notes of all scripts played on a broker."""
    broker.start()
    try:
        lifecycle.wait_until_served(broker)
        wire = OnTheWire(address())
        try:
            return play_all(wire)
        finally:
            wire.close()
    finally:
        broker.stop()


def differences(notes: dict[str, list[Any]]) -> list[Any]:
    """Where the coordinator in memory answers otherwise."""
    return [
        (name, number, ours, theirs)
        for name, found in play_all(InMemory()).items()
        for number, (ours, theirs) in enumerate(zip(found, notes[name], strict=True))
        if ours != theirs
    ]


def test_every_answer_is_as_kafka_gives_it(tmp_path: Path) -> None:
    require(None if jars.available() else jars.MISSING)
    kafka = Kafka(tmp_path / "kafka", SETTINGS)
    notes = played_by(kafka, lambda: f"{kafka.address.host}:{kafka.address.port}")
    assert differences(notes) == []


def test_every_answer_comes_through_the_broker(tmp_path: Path) -> None:
    tailrace = Tailrace(tmp_path / "tailrace", SETTINGS)
    notes = played_by(tailrace, lambda: tailrace.bootstrap)
    assert differences(notes) == []
