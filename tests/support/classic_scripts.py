"""What members of classic groups do, and what a coordinator answers; what is left to chance is left out."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from tailrace.core.protocol.messages.describe_groups import DescribeGroupsRequest
from tailrace.core.protocol.messages.heartbeat import HeartbeatRequest
from tailrace.core.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from tailrace.core.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupRequestMember
from tailrace.core.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment

SETTINGS = {
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "100",
    "group.max.size": "3",
}
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
JOIN, HEARTBEAT, LEAVE, SYNC, DESCRIBE = 11, 12, 13, 14, 15
NAMED = {"protocol_type": "consumer", "protocol_name": "range"}
BOTH = {"range": b"1", "sticky": b"2"}


class Coordinator(Protocol):
    """A coordinator, on the wire or not."""

    def send(self, connection: str, key: int, version: int, message: Struct) -> None:
        """Ask something on a connection of that name."""
        ...

    def receive(self, connection: str) -> Any:
        """The answer to what was asked there."""
        ...

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Let time pass."""
        ...


class Player:
    """Plays one script in one group and notes every answer; members have names, ids are numbered."""

    def __init__(self, coordinator: Coordinator, group_id: str) -> None:
        self._coordinator = coordinator
        self._group_id = group_id
        self._uuids: dict[str, str] = {}
        self._asked: dict[str, str] = {}
        self.ids: dict[str, str] = {}
        self.generation = -1
        self.notes: list[Any] = []

    # -- asking

    def send_join(
        self, name: str, protocols: Mapping[str, bytes] | None = None, version: int = 9, **fields: Any
    ) -> None:
        """JoinGroup, with the id that the member has."""
        named = ({"range": b"1"} if protocols is None else protocols).items()
        values: dict[str, Any] = {
            "group_id": self._group_id,
            "session_timeout_ms": 60_000,
            "rebalance_timeout_ms": 60_000,
            "member_id": self.ids.get(name, ""),
            "protocol_type": "consumer",
            "protocols": [JoinGroupRequestProtocol(*item) for item in named],
        }
        self._send(name, JOIN, version, JoinGroupRequest(**(values | fields)))

    def join(
        self, name: str, protocols: Mapping[str, bytes] | None = None, version: int = 9, **fields: Any
    ) -> None:
        """JoinGroup that is answered at once."""
        self.send_join(name, protocols, version, **fields)
        self.hear(name)

    def send_sync(self, name: str, version: int = 5, **fields: Any) -> None:
        """SyncGroup; `to` says what each member is assigned."""
        to: dict[str, bytes] = fields.pop("to", {})
        values: dict[str, Any] = {
            "group_id": self._group_id,
            "generation_id": self.generation,
            "member_id": self.ids.get(name, ""),
            "assignments": [SyncGroupRequestAssignment(self.ids[each], data) for each, data in to.items()],
            **NAMED,
        }
        self._send(name, SYNC, version, SyncGroupRequest(**(values | fields)))

    def sync(self, name: str, version: int = 5, **fields: Any) -> None:
        """SyncGroup that is answered at once."""
        self.send_sync(name, version, **fields)
        self.hear(name)

    def beat(self, name: str, version: int = 4, **fields: Any) -> None:
        """Heartbeat."""
        values: dict[str, Any] = {
            "group_id": self._group_id,
            "generation_id": self.generation,
            "member_id": self.ids.get(name, ""),
        }
        self._send(name, HEARTBEAT, version, HeartbeatRequest(**(values | fields)))
        self.hear(name)

    def leave(self, *members: tuple[str, str | None], version: int = 5) -> None:
        """LeaveGroup of (member, group instance id)."""
        ids = [self.ids.get(name, name) for name, _ in members]
        message = LeaveGroupRequest(
            group_id=self._group_id,
            member_id=ids[0] if version < 3 else "",
            members=[
                LeaveGroupRequestMember(*pair)
                for pair in zip(ids, (instance for _, instance in members), strict=True)
                if version >= 3
            ],
        )
        self._send("leaver", LEAVE, version, message)
        self.hear("leaver")

    def describe(self, version: int = 6) -> None:
        """Note what DescribeGroups shows."""
        self.notes.append(("describe", self._plain(self._describe(version))))

    def until(self, state: str, members: int) -> None:
        """Let time pass until the group is so."""

        def is_so() -> bool:
            (group,) = self._describe(6).groups
            return group.group_state == state and len(group.members) == members

        self._coordinator.wait_until(is_so, f"{self._group_id} to be {state} with {members} members")

    # -- hearing

    def hear(self, name: str) -> None:
        """Note the answer that the member waits for, and keep its id and the generation."""
        answer = self._coordinator.receive(name)
        if getattr(answer, "member_id", ""):
            self.ids[name] = answer.member_id
        if getattr(answer, "generation_id", -1) >= 0:
            self.generation = answer.generation_id
        self.notes.append((self._asked[name], name, self._plain(answer)))

    def _send(self, name: str, key: int, version: int, message: Struct) -> None:
        self._asked[name] = f"{type(message).__name__} v{version}"
        self._coordinator.send(name, key, version, message)

    def _describe(self, version: int) -> Any:
        self._coordinator.send("describer", DESCRIBE, version, DescribeGroupsRequest([self._group_id]))
        return self._coordinator.receive("describer")

    def _plain(self, answer: Struct) -> Any:
        fields = msgspec.to_builtins(answer, builtin_types=(bytes,))
        return self._numbered(fields)

    def _numbered(self, value: Any) -> Any:
        if isinstance(value, str):
            known = self._uuids
            text = UUID.sub(lambda found: known.setdefault(found[0], f"#{len(known)}"), value)
            return text.replace(self._group_id, "GROUP")
        if isinstance(value, dict):
            return {name: self._numbered(part) for name, part in value.items()}  # pyright: ignore
        if isinstance(value, list):
            return sorted((self._numbered(part) for part in value), key=repr)  # pyright: ignore
        return value


def _every_version(play: Player) -> None:
    for version in range(10):
        name = f"v{version}"
        play.join(name, version=version)
        if version >= 4:
            play.join(name, version=version)
        play.describe(min(version, 6))
        play.sync(name, min(version, 5), to={name: b"mine"})
        play.beat(name, min(version, 4))
        play.describe(min(version, 6))
        play.join(name, version=version)
        play.leave((name, None), version=min(version, 5))
        play.describe(min(version, 6))


def _refused_joins(play: Player) -> None:
    play.join("a", session_timeout_ms=99)
    play.join("a", session_timeout_ms=1_800_001, member_id="who")
    play.join("a", member_id="who")
    play.ids.clear()
    play.join("a")
    play.join("b", protocol_type="")
    play.join("b", {})
    play.join("a")
    play.sync("a", to={"a": b"mine"})
    play.join("b", protocol_type="connect")
    play.join("b", {"sticky": b""})
    play.join("a", {"sticky": b""})
    play.join("b", member_id="who")
    play.ids.pop("b")
    play.join("b", member_id="who", group_instance_id="i")
    play.ids.pop("b")
    play.join("b", group_id="")
    play.join("b")
    play.join("b", group_instance_id="i")
    play.beat("a")
    play.describe()


def _two_members(play: Player) -> None:
    play.join("a", BOTH)
    play.join("a", BOTH)
    play.sync("a", to={"a": b"all"})
    play.join("b", BOTH)
    play.beat("a")
    play.send_join("b", BOTH)
    play.until("PreparingRebalance", 2)
    play.describe()
    play.beat("a")
    play.join("a", BOTH)
    play.hear("b")
    play.describe()
    play.join("b", BOTH)
    play.send_sync("b")
    play.sync("a", to={"a": b"half", "b": b"other"})
    play.hear("b")
    play.describe()
    play.sync("b")
    play.join("b", BOTH)
    play.send_join("b", {"range": b"2"})
    play.until("PreparingRebalance", 2)
    play.join("a", BOTH)
    play.hear("b")
    play.send_sync("a")
    play.hear("a")
    play.sync("b")
    play.leave(("a", None), ("b", None), ("a", None), ("who", None), ("", None), ("", "i"))
    play.describe()


def _refused_syncs(play: Player) -> None:
    play.sync("a")
    play.join("a", group_instance_id="i")
    play.sync("a", generation_id=0)
    play.sync("a", generation_id=0, protocol_type="connect")
    play.sync("a", protocol_type="connect")
    play.sync("a", protocol_name="sticky")
    play.sync("a", protocol_name=None)
    play.sync("b", protocol_name=None)
    play.sync("b")
    play.sync("b", group_instance_id="i")
    play.sync("a", group_instance_id="j")
    play.sync("a", group_id="")
    play.beat("a", generation_id=0)
    play.beat("a", generation_id=2)
    play.beat("b", group_instance_id="i")
    play.beat("b", group_instance_id="j", generation_id=0)
    play.beat("a", group_id="")
    play.sync("a", group_instance_id="i", to={"a": b"mine"})
    play.sync("a", 3, protocol_type=None, protocol_name=None)
    play.join("b")
    play.sync("b")
    play.beat("b")


def _static_members(play: Player) -> None:
    play.join("a", group_instance_id="i")
    play.sync("a", to={"a": b"all"})
    play.send_join("b", group_instance_id="j")
    play.until("PreparingRebalance", 2)
    play.join("a", group_instance_id="i")
    play.hear("b")
    play.send_sync("b")
    play.sync("a", to={"a": b"half", "b": b"other"})
    play.hear("b")
    for version in (9, 8, 5):
        old = dict(play.ids)
        play.join("b", member_id="", group_instance_id="j", version=version)
        play.sync("b", group_instance_id="j")
        play.beat("b", group_instance_id="j", member_id=old["b"])
        play.beat("b", member_id=old["b"])
        play.join("a", member_id="", group_instance_id="i", version=version)
        play.sync("a", group_instance_id="i")
        play.beat("a", group_instance_id="i")
        play.describe()
    play.join("b", {"range": b"2"}, member_id="", group_instance_id="j")
    play.beat("a")
    play.describe()
    old = dict(play.ids)
    play.send_join("b", {"range": b"3"}, group_instance_id="j")
    play.until("PreparingRebalance", 2)
    play.send_join("again", {"range": b"3"}, group_instance_id="j")
    play.hear("b")
    play.join("a", group_instance_id="i")
    play.hear("again")
    play.send_join("b", {"range": b"3"}, member_id="", group_instance_id="j")
    play.until("PreparingRebalance", 2)
    play.join("a", group_instance_id="i")
    play.hear("b")
    play.sync("a", to={"b": b"all"})
    play.leave((old["b"], "j"), ("", "j"), ("a", "i"), ("", "j"))
    play.describe()


def _full_group(play: Player) -> None:
    for name in "abc":
        play.join(name)
    play.send_join("a")
    play.hear("a")
    play.sync("a")
    play.send_join("b")
    play.until("PreparingRebalance", 2)
    play.send_join("c")
    play.until("PreparingRebalance", 3)
    play.join("a")
    play.hear("b")
    play.hear("c")
    play.join("d")
    play.join("d", group_instance_id="i")
    play.sync("a")
    play.join("d", group_instance_id="i")
    play.describe()
    play.leave(("b", None))
    play.join("d")
    play.describe()


def _late_members(play: Player) -> None:
    short: dict[str, Any] = {"rebalance_timeout_ms": 1_000}
    play.join("a", **short)
    play.join("a", **short)
    play.sync("a", to={"a": b"all"})
    play.join("b", **short)
    play.send_join("b", **short)
    play.hear("b")  # a does not join again
    play.describe()
    play.sync("b", to={"b": b"all"})
    play.beat("a")
    play.join("c", **short)
    play.send_join("c", **short)
    play.until("PreparingRebalance", 2)
    play.join("b", **short)
    play.hear("c")
    play.send_sync("c")
    play.hear("c")  # b does not sync
    play.beat("b")
    play.join("c", **short)
    play.sync("c")
    play.join("d", **short)
    play.send_join("d", **short)
    play.until("PreparingRebalance", 2)
    play.join("c", **short)
    play.hear("d")
    play.sync("c")
    play.until("PreparingRebalance", 1)  # d does not sync
    play.beat("d")
    play.join("c", session_timeout_ms=1_000)
    play.sync("c")
    play.until("Empty", 0)  # c is silent
    play.describe()
    play.beat("c")


class Script(Struct, frozen=True):
    """A story by name."""

    name: str
    play: Callable[[Player], None]


SCRIPTS = [
    Script("every version", _every_version),
    Script("refused joins", _refused_joins),
    Script("two members", _two_members),
    Script("refused syncs", _refused_syncs),
    Script("static members", _static_members),
    Script("full group", _full_group),
    Script("late members", _late_members),
]


def play_all(coordinator: Coordinator) -> dict[str, list[Any]]:
    """Every script in a group of its own, and the notes."""
    notes: dict[str, list[Any]] = {}
    for number, script in enumerate(SCRIPTS):
        player = Player(coordinator, f"script-{number}")
        script.play(player)
        notes[script.name] = player.notes
    return notes
