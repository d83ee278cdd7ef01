"""Members of groups as small as they can be, many to a process, in both protocols; and who owned what when.

Each speaks on a connection of its own, as the protocols want it, and obeys them to the letter: what is found
wrong is the coordinator's doing.
"""

import asyncio
import contextlib
import uuid
from collections import defaultdict
from typing import Any

from msgspec import Struct

from perf import wire
from tailrace.core.protocol.apis import APIS
from tailrace.core.protocol.compile import decode, encode
from tailrace.core.protocol.frames import parse_response_header, request_frame
from tailrace.core.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions,
)
from tailrace.core.protocol.messages.heartbeat import HeartbeatRequest
from tailrace.core.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from tailrace.core.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupRequestMember
from tailrace.core.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment

JOIN, HEARTBEAT, LEAVE, SYNC, CONSUMER_HEARTBEAT = 11, 12, 13, 14, 68
VERSIONS = {JOIN: 9, HEARTBEAT: 4, LEAVE: 5, SYNC: 5, CONSUMER_HEARTBEAT: 1}
MEMBER_ID_REQUIRED, REBALANCE_IN_PROGRESS, ILLEGAL_GENERATION, UNKNOWN_MEMBER = 79, 27, 22, 25
FENCED_EPOCH = 110
COMING = (14, 15, 16)  # the coordinator loads, or is elsewhere
SESSION_MS, BEAT_S = 1_500, 0.1  # of classic members; that of the others is the broker's to say


class Wire:
    """One connection, one request at a time."""

    def __init__(self, bootstrap: str) -> None:
        self._address = wire.address(bootstrap)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, key: int, message: Struct) -> Any:
        """Send a request and wait for the answer; ConnectionError when the broker hangs up."""
        api, version = APIS[key], VERSIONS[key]
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        frame = request_frame(api, version, 7, "churn", [bytearray(encode(message, version))])
        writer.write(b"".join(frame))
        try:
            size = int.from_bytes(await reader.readexactly(4))
            answer = await reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("the broker hung up") from error
        _, position = parse_response_header(answer, 0, size, api.response_header_version(version))
        return decode(api.response, version, answer[position:])

    async def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            with contextlib.suppress(ConnectionError):
                await self._streams[1].wait_closed()
        self._streams = None


class Ledger:
    """Who owns which partition; each claim is looked at when it is made."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.generations: dict[int, dict[int, str]] = defaultdict(dict)  # classic: partition to member
        self.leaders: dict[int, str] = {}
        self.owners: dict[int, str] = {}  # KIP-848: by those that live

    def lead(self, generation: int, member: str) -> None:
        """A generation has one leader."""
        if self.leaders.setdefault(generation, member) != member:
            self.wrong.append(f"generation {generation}: {member} leads beside {self.leaders[generation]}")

    def assign(self, generation: int, member: str, partitions: set[int]) -> None:
        """What a member of a classic group was given in a generation."""
        given = self.generations[generation]
        for partition in partitions:
            if given.setdefault(partition, member) != member:
                self.wrong.append(f"generation {generation}, {partition}: {member} and {given[partition]}")

    def take(self, member: str, partitions: set[int]) -> None:
        """A KIP-848 member begins to read them."""
        for partition in partitions:
            owner = self.owners.setdefault(partition, member)
            if owner != member:
                self.wrong.append(f"{partition}: {member} and {owner}")

    def give(self, member: str, partitions: set[int]) -> None:
        """It reads them no more."""
        for partition in partitions:
            if self.owners.get(partition) == member:
                del self.owners[partition]


class ClassicMember:
    """Joins, synchronises, beats; a leader hands out the partitions in turn."""

    def __init__(self, bootstrap: str, group: str, topic: tuple[bytes, str, int], ledger: Ledger) -> None:
        self._wire, self._group, self._partitions, self._ledger = Wire(bootstrap), group, topic[2], ledger
        self.member_id, self.epoch = "", -1
        self.owned: set[int] = set()

    async def live(self) -> None:
        """Until cancelled, which is how it dies."""
        try:
            while True:
                await self._join()
                while await self._beat() == 0:
                    await asyncio.sleep(BEAT_S)
                self.owned = set()
        finally:
            await self._wire.close()

    async def _join(self) -> None:
        while True:
            answer = await self._wire.ask(
                JOIN,
                JoinGroupRequest(
                    group_id=self._group,
                    session_timeout_ms=SESSION_MS,
                    rebalance_timeout_ms=SESSION_MS,
                    member_id=self.member_id,
                    protocol_type="churn",
                    protocols=[JoinGroupRequestProtocol("in turn", b"")],
                ),
            )
            if answer.error_code in (MEMBER_ID_REQUIRED, UNKNOWN_MEMBER):
                self.member_id = answer.member_id if answer.error_code == MEMBER_ID_REQUIRED else ""
            elif answer.error_code == 0:
                self.member_id, self.epoch = answer.member_id, answer.generation_id
                if await self._sync(answer):
                    return
            elif answer.error_code in COMING:
                await asyncio.sleep(BEAT_S)
            elif answer.error_code != REBALANCE_IN_PROGRESS:
                self._ledger.wrong.append(f"JoinGroup: error {answer.error_code}")

    async def _sync(self, joined: Any) -> bool:
        shares: dict[str, list[int]] = {member.member_id: [] for member in joined.members}
        if joined.leader == self.member_id:
            self._ledger.lead(self.epoch, self.member_id)
            names = sorted(shares)
            for partition in range(self._partitions):
                shares[names[partition % len(names)]].append(partition)
        request = SyncGroupRequest(group_id=self._group, generation_id=self.epoch, member_id=self.member_id)
        request.protocol_type, request.protocol_name = "churn", "in turn"
        request.assignments = [
            SyncGroupRequestAssignment(name, ",".join(map(str, share)).encode())
            for name, share in shares.items()
        ]
        answer = await self._wire.ask(SYNC, request)
        if answer.error_code == 0:
            self.owned = {int(one) for one in bytes(answer.assignment).decode().split(",") if one}
            self._ledger.assign(self.epoch, self.member_id, self.owned)
            return True
        self._expect("SyncGroup", answer.error_code)
        return False

    async def _beat(self) -> int:
        request = HeartbeatRequest(group_id=self._group, generation_id=self.epoch, member_id=self.member_id)
        error: int = (await self._wire.ask(HEARTBEAT, request)).error_code
        if error:
            self._expect("Heartbeat", error)
        return error

    def _expect(self, what: str, error: int) -> None:
        if error == UNKNOWN_MEMBER:
            self.member_id = ""
        elif error not in (REBALANCE_IN_PROGRESS, ILLEGAL_GENERATION):
            self._ledger.wrong.append(f"{what}: error {error}")

    async def leave(self) -> None:
        """Say so, on a connection of its own: that of live() may wait for an answer."""
        if self.member_id:
            await self._wire.ask(
                LEAVE, LeaveGroupRequest(self._group, "", [LeaveGroupRequestMember(self.member_id)])
            )
        await self._wire.close()


class ConsumerMember:
    """Beats; gives up what is not assigned any more with the next beat, and takes what is new at once."""

    def __init__(self, bootstrap: str, group: str, topic: tuple[bytes, str, int], ledger: Ledger) -> None:
        self._wire, self._group, self._ledger = Wire(bootstrap), group, ledger
        self._topic_id, self._topic, _ = topic
        self.member_id, self.epoch = str(uuid.uuid4()), 0
        self.owned: set[int] = set()

    async def live(self) -> None:
        """Until cancelled, which is how it dies."""
        try:
            while True:
                await self._beat()
                await asyncio.sleep(BEAT_S)
        finally:
            self._ledger.give(self.member_id, self.owned)
            await self._wire.close()

    def _request(self) -> ConsumerGroupHeartbeatRequest:
        request = ConsumerGroupHeartbeatRequest(self._group, self.member_id, self.epoch)
        request.rebalance_timeout_ms, request.subscribed_topic_names = 3_000, [self._topic]
        places = ConsumerGroupHeartbeatRequestTopicPartitions(self._topic_id, sorted(self.owned))
        request.topic_partitions = [places] if self.owned else []
        return request

    async def _beat(self) -> None:
        request = self._request()
        answer = await self._wire.ask(CONSUMER_HEARTBEAT, request)
        if answer.error_code in (FENCED_EPOCH, UNKNOWN_MEMBER):
            self._ledger.give(self.member_id, self.owned)
            self.owned, self.epoch = set(), 0
        elif answer.error_code and answer.error_code not in COMING:
            self._ledger.wrong.append(f"ConsumerGroupHeartbeat: error {answer.error_code}")
        elif not answer.error_code:
            self.epoch = answer.member_epoch
            if answer.assignment is not None:
                self._assign({one for each in answer.assignment.topic_partitions for one in each.partitions})

    def _assign(self, target: set[int]) -> None:
        self._ledger.give(self.member_id, self.owned - target)
        self._ledger.take(self.member_id, target - self.owned)
        self.owned = target

    async def leave(self) -> None:
        """Say so; what it owned it gives up before."""
        self._ledger.give(self.member_id, self.owned)
        self.owned = set()
        request = ConsumerGroupHeartbeatRequest(self._group, self.member_id, -1)
        await self._wire.ask(CONSUMER_HEARTBEAT, request)
        await self._wire.close()
