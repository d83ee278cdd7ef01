"""What readers, producers and processes have seen of partitions, and what must hold after every event.

No acknowledged record is lost; nothing below a high watermark that was seen differs; no high watermark that
was seen moves back, but for a full stop and an unclean election; one leader an epoch, and never two that can
append; orders rest on what is committed, none is obeyed after a newer one, and so it is with what gateways
know.
"""

from typing import TYPE_CHECKING, cast

from tailrace.core.metadata.image import PartitionImage
from tailrace.core.records.batch import ATTRIBUTES_AT
from tailrace.shm import state_table as rows
from tailrace.workers.control import Assigned, ServeReplica
from tests.sim.cluster_disk import DiskLog

if TYPE_CHECKING:
    from tests.sim.cluster_host import Host

TopicPartition = tuple[bytes, int]
Identity = tuple[int, int, bytes]


class Line:
    """What was seen of one partition since the last unclean election, but for what a loss of power took."""

    def __init__(self) -> None:
        self.seen: list[Identity] = []  # all below `mark`
        self.mark = 0
        self.epoch = -1  # of the leader that showed it
        self.acked: dict[int, int] = {}  # end offset -> number
        self.checked: dict[int, tuple[DiskLog, int, int]] = {}  # by broker: below the last it is known

    def cut(self, count: int) -> None:
        """What was seen after the first batches, so many, may be lost."""
        del self.seen[count:]
        self.mark = self.seen[-1][1] if self.seen else 0
        self.acked = {end: number for end, number in self.acked.items() if end <= self.mark}
        self.checked.clear()


class Readers:
    """See the module."""

    def __init__(self, host: "Host") -> None:
        self._host = host
        self.lines: dict[TopicPartition, Line] = {}
        self._shown: dict[tuple[TopicPartition, int], tuple[DiskLog, int, int]] = {}  # epoch, mark by broker
        self._leaders: dict[tuple[TopicPartition, int], tuple[int, int]] = {}  # by epoch: slot, incarnation
        self._lineages: dict[TopicPartition, int] = {}  # that a line began with
        self.sent: dict[bytes, TopicPartition] = {}  # where batches were written to, by what no leader stamps
        self._in_doubt: set[bytes] = set()  # of those: what the power may have taken from some disks
        self.acks = self.unclean = self.elections = self.full_stops = self.losses = 0

    def line(self, key: TopicPartition) -> Line:
        """Of this partition."""
        return self.lines.setdefault(key, Line())

    def committed(self, key: TopicPartition) -> PartitionImage | None:
        """The partition as the quorum has it."""
        quorum = self._host.quorum
        return None if quorum is None else quorum.oracle.image.partition(*key)

    def log_of(self, key: TopicPartition, broker: int) -> DiskLog | None:
        """The log of a replica, if there is one."""
        host, state = self._host, self.committed(key)
        assert host.quorum is not None
        if state is None or broker not in state.replicas:
            return None
        name = host.quorum.oracle.image.topics_by_id[key[0]].name
        log_dir = host.brokers[broker - 1].log_dirs.by_id(state.directory_of(broker))
        log = None if log_dir is None else host.disks.logs.get(f"{log_dir.path}/{name}-{key[1]}")
        return None if log is None or log.topic_id != key[0] else log

    # What is shown.

    def show(self, key: TopicPartition, broker: int, row: int, values: list[int]) -> None:
        """A row is published: readers see it."""
        role, epoch, mark = values[rows.ROLE], values[rows.LEADER_EPOCH], values[rows.HIGH_WATERMARK]
        state, log = self.committed(key), self.log_of(key, broker)
        world = self._host.world
        world.tell("row {} of {} at broker {}: role {}, epoch {}, {} of {}", row, key[1], broker, role, epoch,
                   mark, values[rows.LOG_END_OFFSET])  # fmt: skip
        self._check_served(key, row, role)
        if state is None or log is None or role not in (rows.ROLE_LEADER, rows.ROLE_FOLLOWER):
            return
        log.is_plausible()
        lineage = max(state.lineage, 0)
        if role == rows.ROLE_LEADER:
            owner = (values[rows.OWNER] >> 32, values[rows.OWNER] & 0xFFFFFFFF)
            if (key, epoch) not in self._leaders:
                self._on_leader(key, broker, epoch, mark, owner, log)
            if self._leaders[key, epoch] != owner:
                world.fail(f"partition {key[1]}: {owner} and {self._leaders[key, epoch]} lead in {epoch}")
        line = self.line(key)
        if epoch < lineage or epoch < 0:
            return
        if role == rows.ROLE_LEADER:
            if epoch < line.epoch:
                world.fail(f"partition {key[1]}: epoch {epoch} shows a row after {line.epoch}")
            line.epoch = epoch
            if mark < line.mark:
                world.fail(f"partition {key[1]}: high watermark {mark} after {line.mark} was seen")
        before = self._shown.get((key, broker))
        self._shown[key, broker] = (log, epoch, mark)
        if before is not None and before[0] is log and before[1] >= lineage and mark < before[2]:
            world.fail(f"partition {key[1]}, broker {broker}: {before[1:]} and then {(epoch, mark)}")
        self._check_content(key, broker, mark, log)

    def _check_served(self, key: TopicPartition, row: int, role: int) -> None:
        """What a worker serves is still there."""
        process = self._host.workers.get(self._host.current)
        served = None if process is None else process.worker.replicas.by_row.get(row)
        is_served = role in (rows.ROLE_LEADER, rows.ROLE_FOLLOWER)
        if served is not None and is_served and cast("DiskLog", served.log).is_deleted:
            self._host.world.fail(f"partition {key[1]}: row {row} shows a log that is deleted")

    def _check_content(self, key: TopicPartition, broker: int, mark: int, log: DiskLog) -> None:
        """All below the high watermark is what others have shown there, or is the first to be shown."""
        line, world = self.line(key), self._host.world
        known_log, cuts, start = line.checked.get(broker, (log, -1, 0))
        if cuts != log.truncations or known_log is not log:
            start = 0
        if mark > log.log_end_offset:
            world.fail(f"broker {broker} shows {mark}, and ends at {log.log_end_offset}")
        found = [one for one in log.held(start) if one[1] <= mark]
        known = [one for one in line.seen if one[0] >= start and one[1] <= mark]
        if found[: len(known)] != known[: len(found)] or len(found) < len(known):
            world.fail(f"partition {key[1]}: broker {broker} differs below {mark}")
        if mark > line.mark:
            new = found[len(known) :]
            if any(self.sent[data[ATTRIBUTES_AT:]] != key for _, _, data in new):
                world.fail(f"partition {key[1]}: broker {broker} shows what was written to another topic")
            line.seen += new
            line.mark = mark
        # where a batch ends: a high watermark of a checkpoint may be inside of another batch than it was
        line.checked[broker] = (log, log.truncations, found[-1][1] if found else start)

    def _on_leader(
        self, key: TopicPartition, broker: int, epoch: int, mark: int, owner: tuple[int, int], log: DiskLog
    ) -> None:
        """It has all that was seen or acknowledged; an unclean one begins a new line."""
        world, state = self._host.world, self.committed(key)
        assert state is not None
        world.tell(
            "broker {} leads {} in {} from {}, ends at {}", broker, key[1], epoch, mark, log.log_end_offset
        )
        self._leaders[key, epoch] = owner
        self.elections += 1
        if epoch < state.leader_epoch:  # (it is told so soon)
            return
        if state.lineage > self._lineages.get(key, -1):
            self._begin_line(key, state.lineage)
        if epoch == state.lineage:
            self.unclean += 1
            fresh = self.lines[key] = Line()
            fresh.epoch, fresh.mark = epoch, mark
            fresh.seen = [one for one in log.held() if one[1] <= mark]
            return
        line, held = self.line(key), log.held()
        if held[: len(line.seen)] != line.seen:
            line.cut(self._sure(line))
        if held[: len(line.seen)] != line.seen:
            world.fail(f"partition {key[1]}: broker {broker} leads and lacks what was seen")
        there = {one[1] for one in held}
        lost = [number for end, number in line.acked.items() if end not in there]
        if lost:
            world.fail(f"partition {key[1]}: broker {broker} leads and lacks {lost}, acknowledged")

    def _begin_line(self, key: TopicPartition, lineage: int) -> None:
        """Of the past since an unclean election, whatever was before."""
        self._lineages[key] = lineage
        self.lines[key] = Line()

    def acknowledge(self, key: TopicPartition, end: int, number: int, epoch: int) -> None:
        """A client hears of it; epoch: of the leader that says so."""
        line = self.line(key)
        if epoch < self._lineages.get(key, -1) or self.committed(key) is None:
            return  # of what is deleted, or was ended by an unclean election since: it counts no more
        self.acks += 1
        if end > line.mark:
            self._host.world.fail(f"partition {key[1]}: {end} is acknowledged, {line.mark} was seen")
        line.acked[end] = number

    def send(self, key: TopicPartition, batch: bytes) -> None:
        """A client writes it to this partition."""
        self.sent[batch[ATTRIBUTES_AT:]] = key

    # What is said.

    def check_order(self, name: str, order: ServeReplica, known: ServeReplica | None) -> None:
        """It rests on what is committed; `known` is that of the same replica which is obeyed now."""
        state, world = self.committed((order.topic_id, order.partition)), self._host.world
        if state is None:
            return  # deleted since
        said = (order.leader_epoch, order.leader, order.isr)
        if (order.partition_epoch, order.leader_epoch) > (state.partition_epoch, state.leader_epoch):
            world.fail(f"{name} is told what is not committed: {order}")
        is_same = order.partition_epoch == state.partition_epoch
        if is_same and said != (state.leader_epoch, state.leader, state.isr):
            world.fail(f"{name} is told something else than what is committed: {order}")
        if known is not None and _age(known) > _age(order):
            world.fail(f"{name} obeys {order} after {known}")

    def check_assigned(self, message: Assigned) -> None:
        """A gateway hears of a leader."""
        state = self.committed((message.topic_id, message.partition))
        if state is not None and message.leader_epoch > state.leader_epoch:
            self._host.world.fail(f"a gateway is told of a leader that is not committed: {message}")

    def check_leaders(self) -> None:
        """No two can append: whoever was replaced had resigned, or was dead."""
        self.check_log_dirs()
        host = self._host
        leading: dict[TopicPartition, tuple[int, str]] = {}
        for slot, process in host.workers.items():
            for replica in process.worker.replicas.by_row.values():
                if not replica.leads:
                    continue
                key = (replica.order.topic_id, replica.order.partition)
                state = self.committed(key)
                if key in leading:
                    host.world.fail(
                        f"partition {key[1]}: {leading[key]} and {host.name_of(slot)} lead at once"
                    )
                leading[key] = (replica.led_epoch, host.name_of(slot))
                if (
                    state is not None
                    and state.leader_epoch > replica.led_epoch
                    and (state.leader not in (-1, replica.order.leader))
                ):
                    host.world.fail(
                        f"partition {key[1]}: {state.leader} is elected while {host.name_of(slot)} leads on"
                    )

    def check_log_dirs(self) -> None:
        """None is out of service whose disk is well."""
        for broker in self._host.brokers:
            for index, log_dir in enumerate(broker.log_dirs.dirs):
                if broker.log_dirs.table.failure(index) and not self._host.disks.probe(log_dir.path):
                    self._host.world.fail(f"{log_dir.path} is well and out of service")

    def _sure(self, line: Line) -> int:
        """How many of the batches that were seen cannot be lost. Those written before a loss of power may be
        lacking at some that are in sync, and so at the next leader; whoever has one that was written since,
        has what is below it.
        """
        count = len(line.seen)
        while count and line.seen[count - 1][2][ATTRIBUTES_AT:] in self._in_doubt:
            count -= 1
        return count

    def on_full_stop(self, *, power: bool) -> None:
        """High watermarks are those of the checkpoints. Under page cache durability power takes records, of
        which in the end nobody may be left who has them: that was the choice.
        """
        self.full_stops += 1
        self._shown.clear()
        self._leaders.clear()
        self.losses += power
        if power and self._host.brokers[0].config.flush_policy == "page":
            self._in_doubt = set(self.sent)
        for line in self.lines.values():
            line.cut(self._sure(line))
            line.mark = 0
            line.epoch = -1


def _age(order: ServeReplica) -> tuple[int, int]:
    return order.leader_epoch, order.partition_epoch
