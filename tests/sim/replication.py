"""Replication of a whole simulated host: leaders, followers, a controller that never fails, and what befalls.

After every event: nothing acknowledged is lost, nothing below a high watermark differs, none that a reader
has seen moves back, but for a full stop and an unclean election.
"""

from collections.abc import Callable
from typing import Protocol

from tailrace.core.errors import KafkaError
from tailrace.core.replication.frames import CONTROL, AskEpoch, CloseLink, OpenLink, decode_control
from tailrace.core.replication.isr import Proposal
from tailrace.core.replication.replicated_log import ReplicatedLog
from tests.sim.replication_controller import Assigned, Controller, Order
from tests.sim.replication_disk import open_log
from tests.sim.replication_log import MemoryLog, new_batch
from tests.sim.replication_memory import Memory, Peer, Row, TopicPartition
from tests.sim.replication_process import Process
from tests.sim.world import Weather, World

BROKERS: tuple[int, ...] = (0, 1, 2, 3)
RUN_MS = 3000
CALM_MS = 4800  # twice that a proposal waits for its answer, before it is made again
Identity = tuple[int, int, bytes]


class SimulatedLog(ReplicatedLog, Protocol):
    """What the simulation asks besides: MemoryLog, or a Log on a simulated disk."""

    truncations: int

    def produce(self, batch: bytes, leader_epoch: int) -> int: ...

    def read(self, segment: int, position: int, length: int) -> bytes: ...

    def sync(self) -> None: ...

    def held(self, start: int = 0) -> list[Identity]: ...

    def after_kill(self) -> "SimulatedLog": ...

    def after_power_loss(self, keep: Callable[[int, int], int]) -> "SimulatedLog": ...


class Line:
    """What readers have seen of one partition since the last unclean election or loss of power."""

    def __init__(self) -> None:
        self.seen: list[Identity] = []  # all below `mark`
        self.mark = 0
        self.epoch = -1  # of the leader that showed it
        self.acked: dict[int, int] = {}  # number -> end offset
        self.checked: dict[int, tuple[int, int]] = {}  # broker -> (truncations, offset): below it is known


class Cluster:
    """See the module."""

    def __init__(
        self, seed: int, *, partitions: int = 1, make_log: Callable[[], SimulatedLog] = MemoryLog,
        drops: bool = False,
    ) -> None:  # fmt: skip
        self.world = World(seed, Weather(delay_ms=(0, 6), slow=0.05, slow_ms=80))
        random = self.world.random
        self.drops = drops
        self.synced_only = random.random() < 0.4
        self.memory = Memory(random.choice((600, 1500, 60_000)))
        self.frame_max = random.choice((150, self.memory.ring_bytes // 2))
        self.moves = random.random() < 0.3  # leaders move to and fro
        self.controller_ms = random.choice((5, 20, 300))  # until it decides
        self.make_log = make_log
        self.controller = Controller(random)
        self.topic_partitions: list[TopicPartition] = [(b"t" * 16, number) for number in range(partitions)]
        self.logs: dict[tuple[TopicPartition, int], SimulatedLog] = {}
        self.lines = {tp: Line() for tp in self.topic_partitions}
        self.processes: dict[int, Process] = {}
        self.incarnations = dict.fromkeys(BROKERS, 0)
        self.batches = self.acks = self.power_losses = 0
        self.is_calm = False
        for tp in self.topic_partitions:
            replicas = tuple(random.sample(BROKERS, 3))
            self.controller.partitions[tp] = Assigned(tp, replicas, unclean=random.random() < 0.3)
        for broker in BROKERS:
            self.world.add(f"broker {broker}", lambda _, message: message())
            self.world.crash(f"broker {broker}")
            self.start(broker)

    # What processes use

    def log(self, tp: TopicPartition, broker: int) -> SimulatedLog:
        """The replica's log; it outlives processes."""
        log = self.logs.get((tp, broker))
        if log is None:
            log = self.logs[tp, broker] = self.make_log()
        return log

    def rows_of(self, tp: TopicPartition) -> list[Row]:
        """Of all replicas, also those that are dead or moved away."""
        return [row for (of, _), row in self.memory.rows.items() if of == tp]

    def is_live(self, peer: Peer) -> bool:
        """As the slot table says."""
        process = self.processes.get(peer[0])
        return process is not None and process.incarnation == peer[1]

    @staticmethod
    def is_from_follower(frame: bytes) -> bool:
        """A ring may carry both; workers have one each way and role."""
        return frame[0] == CONTROL and isinstance(decode_control(frame), AskEpoch | OpenLink | CloseLink)

    def push(self, source: Peer, target: Peer) -> Callable[[bytes], bool]:
        """Into the ring; with `drops` data frames may vanish, as no ring does."""

        def push(frame: bytes) -> bool:
            if self.drops and frame[0] != CONTROL and not self.is_calm and self.world.chance(0.05):
                return True
            return self.memory.ring(source, target).push(frame)

        return push

    def propose(self, process: Process, tp: TopicPartition, proposal: Proposal) -> None:
        """To the controller and back; either may take long, or fail once."""
        world = self.world

        def decide() -> None:
            error, state = self.controller.alter(tp, proposal, process.broker)
            world.tell("{} of {}: {} {}", proposal, tp[1], error, state)
            if self.is_calm or world.chance(0.8):  # else the answer is lost
                world.send("controller", process.name, lambda: process.on_answer(tp, proposal, error, state))
            self.tell_changes()

        if self.is_calm or world.chance(0.9):
            world.at(world.now_ms + world.random.randint(0, self.controller_ms), decide)

    # What is watched

    def show(self, tp: TopicPartition, broker: int, row: Row) -> None:
        """A row is published: readers see it."""
        self.world.tell("row of {} at broker {}: {}", tp[1], broker, row)
        before = self.memory.rows.get((tp, broker))
        self.memory.rows[tp, broker] = row
        line, lineage = self.lines[tp], self.controller.partitions[tp].lineage
        if row.leader_epoch < lineage or row.leader_epoch < 0:
            return
        if row.leads:
            if row.leader_epoch < line.epoch:
                self.world.fail(f"partition {tp[1]}: epoch {row.leader_epoch} shows a row after {line.epoch}")
            line.epoch = row.leader_epoch
            if row.high_watermark < line.mark:
                self.world.fail(
                    f"partition {tp[1]}: high watermark {row.high_watermark} after {line.mark} was seen"
                )
        if (
            before is not None
            and before.leader_epoch >= max(lineage, 0)
            and (row.high_watermark < before.high_watermark)
        ):
            self.world.fail(f"partition {tp[1]}, broker {broker}: {before} and then {row}")
        self.check_content(tp, broker, row.high_watermark)

    def check_content(self, tp: TopicPartition, broker: int, mark: int) -> None:
        """All below the high watermark is what others have shown there, or is the first to be shown."""
        line, log = self.lines[tp], self.log(tp, broker)
        truncations, start = line.checked.get(broker, (-1, 0))
        if truncations != log.truncations:
            start = 0
        if mark > log.log_end_offset:
            self.world.fail(f"broker {broker} shows {mark}, and ends at {log.log_end_offset}")
        found = [one for one in log.held(start) if one[1] <= mark]
        known = [one for one in line.seen if one[0] >= start and one[1] <= mark]
        if found[: len(known)] != known[: len(found)] or (len(found) < len(known)):
            self.world.fail(f"partition {tp[1]}: broker {broker} differs below {mark}")
        if mark > line.mark:
            line.seen += found[len(known) :]
            line.mark = mark
        line.checked[broker] = (log.truncations, mark)

    def check_new_leader(self, tp: TopicPartition, broker: int, epoch: int, lineage: int, mark: int) -> None:
        """It has all that was seen or acknowledged; an unclean one begins a new line."""
        line, log = self.lines[tp], self.log(tp, broker)
        self.world.tell("broker {} leads {} in {} from {}, ends at {}", broker, tp[1], epoch, mark,
                        log.log_end_offset)  # fmt: skip
        if epoch == lineage:
            fresh = self.lines[tp] = Line()
            fresh.epoch, fresh.mark = epoch, mark
            fresh.seen = [one for one in log.held() if one[1] <= mark]
            return
        held = log.held()
        if held[: len(line.seen)] != line.seen:
            self.world.fail(f"partition {tp[1]}: broker {broker} leads and lacks what was seen")
        there = {one[1] for one in held}
        lost = [number for number, end in line.acked.items() if end not in there]
        if lost:
            self.world.fail(f"partition {tp[1]}: broker {broker} leads and lacks {lost}, acknowledged")

    def acknowledge(self, tp: TopicPartition, end: int, number: int) -> None:
        """A client hears of it."""
        line = self.lines[tp]
        self.acks += 1
        line.acked[number] = end
        if end > line.mark:
            self.world.fail(f"partition {tp[1]}: {end} is acknowledged, {line.mark} was seen")

    # What befalls

    def start(self, broker: int) -> None:
        """A process that was not there."""
        self.incarnations[broker] += 1
        process = Process(self, broker, self.incarnations[broker])
        self.world.restart(process.name, lambda _, message: message())
        self.processes[broker] = process
        self.schedule_turn(process)
        self.controller.on_start(broker, process.peer)
        self.tell_changes()

    def schedule_turn(self, process: Process) -> None:
        """Again and again while it lives."""

        def turn() -> None:
            process.turn()
            self.schedule_turn(process)

        self.world.after(process.name, self.world.random.randint(1, 6), turn)

    def kill(self, broker: int) -> None:
        """SIGKILL: logs, rows, rings and words stay as they are."""
        if broker not in self.processes:
            return
        process = self.processes.pop(broker)
        self.world.crash(process.name)
        for tp in self.topic_partitions:
            if (tp, broker) in self.logs:
                self.logs[tp, broker] = self.logs[tp, broker].after_kill()
                self.lines[tp].checked.pop(broker, None)
        delay = self.world.random.randint(0, 10)
        self.world.at(self.world.now_ms + delay, lambda: self.on_death(process))

    def on_death(self, process: Process) -> None:
        """The slot table says so: everybody hears, and only then may it start again."""
        for other in self.processes.values():
            other.deaths.append(process.peer)
        if self.controller.alive.get(process.broker) == process.peer:
            self.controller.on_death(process.broker)
        self.tell_changes()
        again = 1 if self.is_calm else self.world.random.randint(1, 400)
        self.world.at(self.world.now_ms + again, lambda: self.start_again(process))

    def start_again(self, process: Process) -> None:
        """If nobody has."""
        if process.broker not in self.processes and self.incarnations[process.broker] == process.incarnation:
            self.start(process.broker)

    def power_fails(self) -> None:
        """All processes die, and what was not synced may be lost."""
        world = self.world
        world.tell("the power fails")
        self.power_losses += 1
        for broker in list(self.processes):
            process = self.processes.pop(broker)
            world.crash(process.name)
        for key, log in list(self.logs.items()):
            self.logs[key] = log.after_power_loss(world.survivors)
        self.memory.clear()
        self.controller.alive.clear()
        for tp, one in self.controller.partitions.items():
            one.leader, one.resigning = -1, False
            line = self.lines[tp]
            line.checked.clear()
            if not self.synced_only:  # page cache: what is left is what there is
                line.acked.clear()
                line.seen, line.mark = [], 0
            else:
                line.mark = 0  # a reader may see less again, but nothing else
                line.epoch = -1
        for broker in BROKERS:
            self.start(broker)

    def tell_changes(self) -> None:
        """Orders on their way, each with what is committed when it was written."""
        leaving, self.controller.to_resign = self.controller.to_resign, []
        for one in leaving:
            self.resign(one)
        changed, self.controller.changed = self.controller.changed, {}
        for tp in changed:
            order = self.controller.order(self.controller.partitions[tp])
            self.world.tell("committed: {}", order)
            for process in self.processes.values():
                if (tp, process.broker) in self.logs or process.broker in order.state.replicas:
                    self.tell(process, order)

    def tell(self, process: Process, order: Order) -> None:
        """Orders overtake each other: who is told knows by the partition epoch."""

        def obey() -> None:
            try:
                process.obey(order)
            except KafkaError as error:
                if self.synced_only or not self.power_losses:  # else members of the ISR have lost their ends
                    self.world.fail(f"{process.name}: {error}")
                self.world.tell("{} refuses: {}", process.name, error)
                self.controller.on_refused(order.topic_partition, process.broker, order.leader_epoch)
                self.tell_changes()

        self.world.send("controller", process.name, obey)

    def resign(self, one: Assigned) -> None:
        """Another is to lead: this one stops, and says so."""
        process = self.processes.get(one.leader)
        if process is None or self.controller.alive.get(one.leader) != process.peer:
            return
        one.resigning = True
        tp, epoch, live = one.topic_partition, one.leader_epoch, process

        def stop() -> None:
            if live.resign(tp, epoch):
                self.controller.on_resigned(tp, epoch)
                self.tell_changes()
            else:  # it has not heard yet that it leads
                self.world.send("controller", live.name, stop)

        self.world.send("controller", process.name, stop)

    def befall(self) -> None:
        """One thing."""
        random, world = self.world.random, self.world
        what = random.choice((0.0, 0.4, 0.6, 0.6, 0.6)) if self.moves else random.random()
        one = self.controller.partitions[random.choice(self.topic_partitions)]
        broker = random.choice((one.leader, *BROKERS))
        if what < 0.35:
            self.kill(broker)
        elif what < 0.55 and broker in self.processes:
            name = f"broker {broker}"
            world.pause(name)
            world.at(world.now_ms + random.randint(1, 2 * 300), lambda: world.resume(name))
        elif what < 0.7 and one.leader in one.replicas and not one.resigning:
            self.resign(one)
        elif what < 0.85 and one.target is None:
            self.controller.reassign(one, tuple(random.sample(BROKERS, 3)))
            self.tell_changes()
        elif what < 0.9:
            self.power_fails()
        elif one.leader >= 0 and not one.resigning:
            one.leader_epoch += 1  # the same leader, in a new epoch
            one.partition_epoch += 1
            self.controller.changed[one.topic_partition] = None
            self.tell_changes()

    def produce(self) -> None:
        """A client sends to whoever it takes for the leader."""
        random = self.world.random
        tp = random.choice(self.topic_partitions)
        batches: list[tuple[int, bytes]] = []
        for _ in range(random.choice((1, 1, 3, 20))):
            self.batches += 1
            batches.append((self.batches, new_batch(self.batches, random.choice((1, 2)))))
        acks_all = random.random() < 0.7
        for process in list(self.processes.values()):
            if tp in process.leaders.partitions:
                self.world.send(
                    "client", process.name, lambda p=process: p.produce(tp, batches, acks_all=acks_all)
                )

    def run(self) -> World:
        """Trouble for a while, then calm: all replicas are to be equal."""
        world, random = self.world, self.world.random

        def client() -> None:
            self.produce()
            world.at(world.now_ms + random.randint(1, 30), client)

        def trouble() -> None:
            if not self.is_calm:
                self.befall()
                world.at(world.now_ms + random.randint(10, 300), trouble)

        world.at(5, client)
        world.at(100, trouble)
        world.run(RUN_MS)
        self.is_calm = True
        for broker in BROKERS:
            world.resume(f"broker {broker}")
        world.run(RUN_MS + CALM_MS // 4)
        self.produce = lambda: None  # type: ignore[method-assign]
        world.run(RUN_MS + CALM_MS)
        self.check_end()
        return world

    def check_end(self) -> None:
        """All replicas are in sync and hold the same."""
        for tp, one in self.controller.partitions.items():
            if one.leader < 0 or len(one.isr) < 3 or one.target is not None:
                self.world.fail(f"partition {tp[1]} is not whole: leader {one.leader}, in sync {one.isr}")
            held = [self.log(tp, broker).held() for broker in one.replicas]
            if held.count(held[0]) != len(held):
                self.world.fail(f"partition {tp[1]}: replicas differ")
            for broker in one.replicas:
                row, log = self.memory.rows[tp, broker], self.log(tp, broker)
                if row.high_watermark != log.log_end_offset:
                    self.world.fail(
                        f"partition {tp[1]}, broker {broker}: {row}, the end is {log.log_end_offset}"
                    )
            if len(self.processes[one.leader].pending[tp]):
                self.world.fail(f"partition {tp[1]}: somebody waits for ever")


def play(seed: int) -> World:
    """What `make sim` runs: each fifth seed with rings that lose data, each seventh with three partitions,
    each twentieth with the real log on a simulated disk.
    """
    make_log = open_log if seed % 20 == 3 else MemoryLog
    return Cluster(seed, partitions=3 if seed % 7 == 0 else 1, drops=seed % 5 == 0, make_log=make_log).run()
