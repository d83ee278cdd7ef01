"""Which worker of which broker coordinates a group, and requests to it: the leader of the group's partition
of __consumer_offsets. The topic is made when a coordinator is first looked for.

A coordinator that has died has a successor some tens of milliseconds later, which first reads its log. What
only reads of a group waits for that: librdkafka does not ask again for the committed offsets of a new
assignment when it is told that there is no coordinator, nor does it fetch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tailrace.core.errors import (
    COORDINATOR_LOAD_IN_PROGRESS,
    NONE,
    NOT_COORDINATOR,
    NOT_LEADER_OR_FOLLOWER,
)
from tailrace.core.groups.partitioner import group_partition
from tailrace.core.metadata.topics import OFFSETS_TOPIC
from tailrace.core.protocol import apis
from tailrace.core.protocol.frames import request_frame
from tailrace.workers.descriptors import GROUP_REQUEST
from tailrace.workers.gateway.leaders import LEADERS_TIMEOUT_MS, await_leaders
from tailrace.workers.gateway.listener import UNIX

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.partitions import Partition
    from tailrace.workers.gateway.request import Request

READS = frozenset((apis.OFFSET_FETCH, apis.DESCRIBE_GROUPS, apis.LIST_GROUPS, apis.CONSUMER_GROUP_DESCRIBE))
SUCCESSOR_TIMEOUT_MS = 1_000  # as a produce request waits for its leader
SUCCESSOR_POLL_MS = 10

OnAnswer = Callable[[int, bytes], None]
"""Error code of the coordinator as a whole, and the body of its response."""


class Coordinators:
    """The group coordinators as a gateway sees them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def count(self) -> int:
        """How many there are; 0: the topic is not made yet."""
        topic = self._gateway.image.topics_by_name.get(OFFSETS_TOPIC)
        return 0 if topic is None else len(topic.partitions)

    def index_of(self, group_id: str) -> int:
        """The partition that holds the group; -1: there is none yet."""
        count = self.count()
        return group_partition(group_id, count) if count else -1

    def own(self) -> list[int]:
        """Those that this gateway's broker leads."""
        topic = self._gateway.image.topics_by_name.get(OFFSETS_TOPIC)
        partitions, node_id = [] if topic is None else topic.partitions, self._gateway.context.node_id
        return [partition.partition for partition in partitions if partition.leader == node_id]

    def broker_of(self, group_id: str) -> int:
        """The broker that coordinates the group now, -1: none does."""
        gateway = self._gateway
        topic, index = gateway.image.topics_by_name.get(OFFSETS_TOPIC), self.index_of(group_id)
        if topic is None or index < 0:
            return -1
        return gateway.brokers.leader_of(gateway.partitions.get(OFFSETS_TOPIC, topic.topic_id, index))

    def prepare(self, on_ready: Callable[[int], None]) -> None:
        """Call `on_ready` when the topic is there and led: with NONE, or why it cannot be made."""
        if self.count():
            self._await(on_ready, NONE)
            return
        creation = self._gateway.controller.auto_creation
        creation.make([OFFSETS_TOPIC], lambda codes: self._await(on_ready, codes[OFFSETS_TOPIC]))

    def _await(self, on_ready: Callable[[int], None], code: int) -> None:
        await_leaders(self._gateway, [OFFSETS_TOPIC], LEADERS_TIMEOUT_MS, lambda: on_ready(code))

    def ask(self, index: int, request: Request, body: bytes, on_answer: OnAnswer) -> None:
        """Send a request's body, all of it or the part for this coordinator."""
        deadline_ms = self._gateway.now_ms() + SUCCESSOR_TIMEOUT_MS if request.api.key in READS else 0
        self._ask(index, _question(request, body), deadline_ms, on_answer)

    def _ask(self, index: int, question: bytes, deadline_ms: int, on_answer: OnAnswer) -> None:
        """Until the deadline it is asked again, if there is no coordinator yet or it has just died."""
        gateway = self._gateway
        topic = gateway.image.topics_by_name.get(OFFSETS_TOPIC)
        if topic is None or not 0 <= index < len(topic.partitions):
            on_answer(NOT_COORDINATOR, b"")
            return

        def on_leader_answer(error: int, answer: bytes) -> None:
            now_ms = gateway.now_ms()
            if now_ms < deadline_ms and (
                error == COORDINATOR_LOAD_IN_PROGRESS
                or (error == NOT_LEADER_OR_FOLLOWER and _may_return(partition))
            ):
                gateway.timers.schedule(
                    now_ms + SUCCESSOR_POLL_MS, lambda: self._ask(index, question, deadline_ms, on_answer)
                )
                return
            on_answer(NOT_COORDINATOR if error == NOT_LEADER_OR_FOLLOWER else error, answer)

        partition = gateway.partitions.get(OFFSETS_TOPIC, topic.topic_id, index)
        gateway.asks.ask(partition, GROUP_REQUEST, question, on_leader_answer)


def _may_return(partition: Partition) -> bool:
    """Not one that is out of service, nor one that another broker leads."""
    return partition.elsewhere is None and partition.error in (NONE, NOT_LEADER_OR_FOLLOWER)


def _question(request: Request, body: bytes) -> bytes:
    """The length of the client's address, the address, the request with its header."""
    peer = request.connection.peer
    host = b"/" + (b"127.0.0.1" if peer == UNIX else peer.encode())
    frame = request_frame(request.api, request.version, 0, request.client_id, [bytearray(body)])
    return bytes((len(host),)) + host + bytes(frame[0][4:])
