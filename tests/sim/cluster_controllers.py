"""The controllers of a simulated host: the real ones, of workers/, over Raft nodes of the simulation.

A controller's Raft messages go through the world, which loses, doubles and delays them; all else that it says
or hears goes through rings, as it does on a real host.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from tailrace.core.metadata.batches import batch_of, records_of
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import Record
from tailrace.core.metadata.snapshot import decode_snapshot, encode_snapshot
from tailrace.core.raft.effects import BecameLeader, Committed, Effect, LostLeadership
from tailrace.core.raft.messages import OffsetAndEpoch
from tailrace.shm import state_table as rows
from tailrace.shm.slots import CONTROLLER, READY
from tailrace.shm.state_table import RowWriter
from tailrace.workers.metadata_log import MetadataLog
from tailrace.workers.process import DiskLost
from tailrace.workers.quorum_member import Member as QuorumMember
from tests.sim import raft_cluster
from tests.sim.memory_log import MemoryLog, Stored
from tests.sim.raft_cluster import Pace
from tests.sim.raft_oracle import Oracle

if TYPE_CHECKING:
    from tests.sim.cluster_host import Host


def encoded(image: MetadataImage, epoch: int) -> bytes:
    """All that an image says."""
    return b"".join(encode_snapshot(image, epoch, 0))


class Metadata:
    """Stands for workers.metadata_log.MetadataLog, and for its quorum: over the log of a simulated node."""

    def __init__(self, process: "Controller") -> None:
        self._process = process
        self.image = MetadataImage()
        self.quorum = self
        self.refused = None
        self._led_in = 0
        self.turn()

    @property
    def epoch(self) -> int:
        """See MetadataLog."""
        return self._process.leads_in

    @property
    def is_committed(self) -> bool:
        """See MetadataLog."""
        node = self._process.node
        return node is not None and node.high_watermark >= self._process.log.log_end_offset

    @property
    def leader_id(self) -> int:
        """See Quorum."""
        node = self._process.node
        return -1 if node is None else node.known_leader_id

    def turn(self) -> None:
        """See MetadataLog."""
        node = self._process.node
        if node is None or self._led_in:
            return
        self._advance(node.high_watermark)
        if self.epoch:
            self._advance(self._process.log.log_end_offset)
        self._led_in = self.epoch

    def _advance(self, end_offset: int) -> None:
        log, quorum = self._process.log, self._process.quorum
        if self.image.metadata_offset >= end_offset:
            return
        if self.image.metadata_offset < log.start.offset:
            assert log.snapshot is not None
            self.image.become(decode_snapshot(quorum.snapshots[log.snapshot.snapshot_id]).image)
        for stored in log.batches:
            if self.image.metadata_offset <= stored.base_offset and stored.next_offset <= end_offset:
                self.image.replay(records_of(stored.data), stored.next_offset)

    def stage(self, records: Sequence[Record], now_ms: int) -> None:
        """See MetadataLog."""
        process = self._process
        assert process.node is not None
        end = process.node.append(batch_of(records, now_ms), process.quorum.world.now_ms)
        self.image.replay(records, end)
        process.quorum.world.tell("{} stages {}", process.name, records)
        process.after_event()

    def wait_s(self, timeout_s: float) -> float:
        """See Quorum."""
        return timeout_s

    def mark_taken_over(self) -> None:
        """See MetadataLog."""
        self._process.write_row(self.epoch)

    def close(self) -> None:
        """See MetadataLog."""


class Controller(raft_cluster.Member):
    """One controller process: its Raft node, and what workers/quorum_member.py makes of it."""

    quorum: "Quorum"

    def __init__(self, quorum: "Quorum", node_id: int) -> None:
        self.quorum, self.host = quorum, quorum.host
        self.slot = self.host.layout.controller(node_id - 1)
        self.leads_in = 0
        self.member: QuorumMember | None = None
        self.host.controllers[self.slot] = self
        super().__init__(quorum, node_id)

    def _start(self) -> None:
        self.leads_in, self.member = 0, None
        context = self.host.begin(self.slot, CONTROLLER, self.turn)
        try:
            self.member = QuorumMember(context)
        except DiskLost:
            self.host.world.crash(self.name)
            self._lose_broker()
            return
        self.host.memory.slots.set_state(self.slot, READY)
        self.host.wake(self.slot)

    def committed_before(self) -> int:
        """See raft_cluster: its row says so, after a death; a full stop takes the row."""
        mark = self.host.memory.state_table.read_word(self.node_id - 1, rows.HIGH_WATERMARK)
        return mark if mark <= self.log.log_end_offset else 0

    def metadata(self) -> MetadataLog:
        """What stands for workers.metadata_log.open_metadata_log: it begins to take part in the quorum."""
        super()._start()
        return cast("MetadataLog", Metadata(self))

    def on_effect(self, effect: Effect) -> None:
        """See raft_cluster."""
        match effect:
            case BecameLeader():
                self.leads_in = effect.epoch
            case LostLeadership():
                self.leads_in = 0
            case Committed():
                self.write_row(None)
            case _:
                pass
        self.host.wake(self.slot)

    def write_row(self, taken_over: int | None) -> None:
        """Its row in the state table."""
        assert self.node is not None
        writer = RowWriter(self.host.memory.state_table, self.node_id - 1)
        writer.values[rows.HIGH_WATERMARK] = self.node.high_watermark
        if taken_over is not None:
            writer.values[rows.RECOVERY_POINT] = taken_over
        writer.publish()

    def turn(self) -> None:
        """One of its loop."""
        assert self.member is not None
        try:
            goes_on = self.member.turn()
        except DiskLost:
            self._lose_broker()
            return
        if not goes_on:
            self.host.memory.slots.set_active_epoch(self.slot, 0)
            self.host.kill(self.slot)
            return
        self.host.later(self.slot, 40)

    def _lose_broker(self) -> None:
        self.host.world.tell("{} has lost its disk", self.name)
        self.host.kill_broker(self.node_id - 1)


class ClusterOracle(Oracle):
    """What is committed, as an image: all controllers have to come to the same."""

    def __init__(self, host: "Host", members: dict[int, raft_cluster.Member]) -> None:
        super().__init__(host.world, members)
        self._host = host
        self.image = MetadataImage()

    def look_at(self, member: raft_cluster.Member) -> None:
        """See Oracle; then what is new is replayed."""
        super().look_at(member)
        if self.image.metadata_offset < self.committed_end:
            for stored in _between(member.log, self.image.metadata_offset, self.committed_end):
                self.image.replay(records_of(stored.data), stored.next_offset)
            assert self.image.metadata_offset == self.committed_end
            self._host.readers.check_leaders()

    def check_image(self, image: MetadataImage, name: str) -> None:
        """State-machine equality: of one that is at the commit."""
        is_as_far = image.metadata_offset == self.image.metadata_offset
        if is_as_far and encoded(image, 0) != encoded(self.image, 0):
            self._world.fail(f"{name} has another image at {image.metadata_offset}")


def _between(log: MemoryLog, start: int, end: int) -> list[Stored]:
    return [one for one in log.batches if start <= one.base_offset and one.next_offset <= end]


class Quorum(raft_cluster.Cluster):
    """The controllers of a host, one a broker."""

    oracle: ClusterOracle

    def __init__(self, host: "Host", brokers: int, pace: Pace) -> None:
        self.host = host
        self.snapshots: dict[OffsetAndEpoch, bytes] = {}
        super().__init__(host.world, brokers, 0, pace)

    def make_oracle(self) -> Oracle:
        """See Cluster."""
        return ClusterOracle(self.host, self.members)

    def make_member(self, node_id: int) -> Controller:
        """See Cluster."""
        return Controller(self, node_id)

    def controller(self, broker: int) -> Controller:
        """That of a broker, by index."""
        return cast("Controller", self.members[broker + 1])

    def take_snapshot(self, member: raft_cluster.Member) -> None:
        """See Cluster: with the image, where that is at the commit."""
        assert isinstance(member, Controller)
        if member.node is None or member.member is None or member.leads_in:
            return
        image, log = member.member.log.image, member.log
        end = image.metadata_offset
        if end != member.node.high_watermark:  # it has led, and has staged what is not committed
            return
        if member.node.installing is not None or log.stored_at(end) is None or end > log.synced:
            return
        voters = member.node.voters.at(end)
        log.take_snapshot(end, voters)
        assert log.snapshot is not None
        self.voters_of[log.snapshot.snapshot_id] = voters
        self.snapshots[log.snapshot.snapshot_id] = encoded(image, log.snapshot.snapshot_id.epoch)
        self.world.tell("{} has a snapshot {}", member.name, log.snapshot.snapshot_id)
