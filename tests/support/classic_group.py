"""One classic group in a runtime of its own, and its requests in one line each.

What it writes is replayed into it as by a coordinator, and timers that are due run after each request.
"""

from collections.abc import Mapping
from typing import Any

from tailrace.core.errors import MEMBER_ID_REQUIRED, NONE
from tailrace.core.groups.classic import ClassicGroup
from tailrace.core.groups.records import GroupMetadataKey, GroupMetadataValue, decode_record
from tailrace.core.groups.runtime import GroupConfig
from tailrace.core.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from tailrace.core.protocol.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
)
from tailrace.core.protocol.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupRequestMember,
    LeaveGroupResponse,
)
from tailrace.core.protocol.messages.sync_group import (
    SyncGroupRequest,
    SyncGroupRequestAssignment,
    SyncGroupResponse,
)
from tailrace.core.timers import Timers
from tests.support.group_runtime import FakeRuntime

SESSION_MS = 10_000
REBALANCE_MS = 30_000
RANGE = {"range": b"r"}


class ClassicBench:
    """The group and what is sent to it; each request gives the list that takes its answer."""

    def __init__(self, **config: Any) -> None:
        self.runtime = FakeRuntime(config=GroupConfig(**config))
        self.runtime.shard = self
        self.runs_timers = True
        self.group = ClassicGroup(self.runtime, "g")

    def replay(self, key: bytes, value: bytes | None) -> None:
        """As the coordinator does."""
        decoded = decode_record(key, value)
        assert decoded is not None
        assert decoded[0] == GroupMetadataKey("g")
        assert decoded[1] is None or isinstance(decoded[1], GroupMetadataValue)
        self.group.replay(decoded[1])

    def restart(self) -> None:
        """Another coordinator reads the log."""
        self.runtime.timers = Timers()
        self.group = ClassicGroup(self.runtime, "g")
        for key, value in self.runtime.log:
            self.replay(key, value)
        self.group.on_loaded()

    def written(self) -> GroupMetadataValue:
        """The newest record."""
        decoded = decode_record(*self.runtime.log[-1])
        assert decoded is not None
        assert isinstance(decoded[1], GroupMetadataValue)
        return decoded[1]

    # -- requests

    def join(
        self,
        member_id: str = "",
        protocols: Mapping[str, bytes] | list[tuple[str, bytes]] = RANGE,
        version: int = 9,
        instance: str | None = None,
        **fields: Any,
    ) -> list[JoinGroupResponse]:
        """JoinGroup."""
        client_id = fields.pop("client_id", "client")
        named = protocols if isinstance(protocols, list) else protocols.items()
        values: dict[str, Any] = {
            "session_timeout_ms": SESSION_MS,
            "rebalance_timeout_ms": REBALANCE_MS,
            "protocol_type": "consumer",
        }
        message = JoinGroupRequest(
            group_id="g",
            member_id=member_id,
            group_instance_id=instance,
            protocols=[JoinGroupRequestProtocol(name, data) for name, data in named],
            **(values | fields),
        )
        return self._ask(self.group.join, 11, version, message, client_id)

    def given_id(self, **fields: Any) -> str:
        """What a dynamic member is told to join with."""
        (answer,) = self.join(**fields)
        assert answer.error_code == MEMBER_ID_REQUIRED
        return answer.member_id

    def enter(self, **fields: Any) -> tuple[str, list[JoinGroupResponse]]:
        """A dynamic member joins with the id it was given."""
        member_id = self.given_id(**fields)
        return member_id, self.join(member_id, **fields)

    def sync(
        self, member_id: str, assignments: Mapping[str, bytes] | None = None, version: int = 4, **fields: Any
    ) -> list[SyncGroupResponse]:
        """SyncGroup, of this generation unless said otherwise."""
        message = SyncGroupRequest(
            group_id="g",
            generation_id=fields.pop("generation", self.group.generation),
            member_id=member_id,
            group_instance_id=fields.pop("instance", None),
            assignments=[SyncGroupRequestAssignment(*item) for item in (assignments or {}).items()],
            **fields,
        )
        return self._ask(self.group.sync, 14, version, message)

    def heartbeat(self, member_id: str, generation: int | None = None, instance: str | None = None) -> int:
        """Heartbeat, of this generation unless said otherwise; its code."""
        generation = self.group.generation if generation is None else generation
        (answer,) = self.heartbeat_answer(member_id, generation, instance)
        return answer.error_code

    def heartbeat_answer(
        self, member_id: str, generation: int, instance: str | None
    ) -> list[HeartbeatResponse]:
        """Heartbeat."""
        message = HeartbeatRequest("g", generation, member_id, instance)
        return self._ask(self.group.heartbeat, 12, 4, message)

    def leave(self, *members: tuple[str, str | None]) -> list[int]:
        """LeaveGroup of (member id, group instance id); the codes."""
        (answer,) = self.leave_answer(*members)
        assert answer.error_code == NONE
        return [member.error_code for member in answer.members]

    def leave_answer(self, *members: tuple[str, str | None]) -> list[LeaveGroupResponse]:
        """LeaveGroup."""
        message = LeaveGroupRequest("g", members=[LeaveGroupRequestMember(*member) for member in members])
        return self._ask(self.group.leave, 13, 5, message)

    # -- states

    def stable(self, *instances: str | None) -> list[str]:
        """A new group becomes stable with these members, the first leads; each is assigned its own id."""
        self.runs_timers = False  # so that all are in the first generation
        waiting = [
            self.join("" if instance is not None else self.given_id(), instance=instance)
            for instance in instances
        ]
        self.runs_timers = True
        self.runtime.advance(0)
        ids = [answer.member_id for (answer,) in waiting]
        syncs = [self.sync(member_id, {each: each.encode() for each in ids}) for member_id in reversed(ids)]
        assert [answer.error_code for (answer,) in syncs] == [NONE] * len(ids)
        return ids

    def _ask(
        self, handle: Any, api_key: int, version: int, message: Any, client_id: str = "client"
    ) -> list[Any]:
        answers = self.runtime.ask(handle, api_key, version, message, client_id)
        if self.runs_timers:
            self.runtime.advance(0)
        return answers
