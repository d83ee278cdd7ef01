"""One partition on three workers of three brokers, in the process of the test: real logs, rings and words.
The test is the controller and the clock.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tailrace.shm.names import RunDir
from tailrace.shm.ring import ByteConsumer
from tailrace.shm.slots import CONTROLLER, WORKER
from tailrace.shm.state_table import HIGH_WATERMARK, LOG_END_OFFSET
from tailrace.workers import control
from tailrace.workers.process import ProcessContext
from tailrace.workers.replica import Replica
from tailrace.workers.worker import Worker
from tests.support.shared import close_shared, make_shared
from tests.unit.log.logs import batch

TOPIC, TOPIC_ID = "topic", bytes(15) + b"\x01"
BROKERS = (0, 1, 2)
ROWS = (5, 6, 7)  # of the replicas


class ReplicatedRun:
    """Broker n has its replica on row ROWS[n]."""

    def __init__(self, path: Path, run_dir: RunDir, **settings: str) -> None:
        self.shared = make_shared(path / "data", run_dir, brokers="3", **settings)
        self.slots, self.layout = self.shared.slots, self.shared.layout
        self.controller = self.begin(self.layout.controller(0), CONTROLLER)
        self.slots.set_active_epoch(self.controller.slot, 1)
        self.contexts = [self.begin(self.layout.workers(index)[0], WORKER) for index in BROKERS]
        self.workers: list[Worker | None] = [Worker(context) for context in self.contexts]
        self.generations = [1, 1, 1]
        self.leader, self.epoch, self.partition_epoch, self.lineage = -1, 0, 0, -1
        self.replicas: tuple[int, ...] = BROKERS
        self.isr: tuple[int, ...] = BROKERS
        self.configs: dict[str, str] = {}
        self.said: list[control.Message] = []

    def begin(self, slot: int, role: int) -> ProcessContext:
        """A process takes the slot."""
        broker = self.layout.broker_of(slot)
        return ProcessContext(self.shared, slot, self.slots.begin(slot, role, broker, 0))

    # -- the controller

    def order(self, broker: int, *, leader_known: bool = True) -> control.ServeReplica:
        """What a broker's worker is told now."""
        leader = self.contexts[self.leader] if self.leader >= 0 and leader_known else None
        return control.ServeReplica(
            topic=TOPIC, topic_id=TOPIC_ID, partition=0, row=ROWS[broker],
            row_generation=self.generations[broker], leader_epoch=self.epoch,
            log_dir=self.shared.brokers[broker].log_dirs.metadata_dir, configs=self.configs, is_new=True,
            leader=self.leader, replicas=self.replicas, isr=self.isr,
            leader_slot=leader.slot if leader else 0,
            leader_incarnation=leader.incarnation if leader else 0,
            leader_log_dir=self.shared.brokers[max(0, self.leader)].log_dirs.metadata_dir,
            partition_epoch=self.partition_epoch, lineage=self.lineage, rows=ROWS,
        )  # fmt: skip

    def elect(self, leader: int, isr: tuple[int, ...] | None = None) -> None:
        """A new leader epoch; the leader is told first."""
        self.leader, self.epoch = leader, self.epoch + 1
        self.commit(self.isr if isr is None else isr)

    def commit(self, isr: tuple[int, ...]) -> None:
        """Who is in sync changes; all are told."""
        self.isr, self.partition_epoch = isr, self.partition_epoch + 1
        for broker in sorted(self.replicas, key=lambda broker: broker != self.leader):
            self.tell(broker, self.order(broker))

    def tell(self, broker: int, message: control.Message) -> None:
        """Say it to a broker's worker, if it lives."""
        worker = self.workers[broker]
        if worker is not None:
            worker.replicas.obey(self.controller.slot, message)

    def listen(self) -> None:
        """What the workers say; proposals are done as they are made."""
        for context in self.contexts:
            context.outbox.flush()
        for slot, incarnation, ring in self.controller.links.poll():
            assert isinstance(ring, ByteConsumer)
            self.said += self.controller.inbox.read(slot, incarnation, ring)

    def altered(self) -> list[tuple[int, ...]]:
        """The in-sync sets that were proposed since the last call; each is committed."""
        self.listen()
        found = [message for message in self.said if isinstance(message, control.AlterPartition)]
        self.said = [message for message in self.said if not isinstance(message, control.AlterPartition)]
        for message in found:
            if message.partition_epoch == self.partition_epoch:
                self.commit(message.isr)
        return [message.isr for message in found]

    # -- processes

    def kill(self, broker: int) -> None:
        """Its worker is dead, and all know."""
        worker, context = self.workers[broker], self.contexts[broker]
        assert worker is not None
        for replica in worker.replicas.by_row.values():
            replica.log.close(clean=False)
        self.workers[broker] = None
        self.slots.mark_dead(context.slot, context.incarnation)

    def revive(self, broker: int) -> None:
        """Another process in its slot, which is told."""
        self.contexts[broker] = self.begin(self.layout.workers(broker)[0], WORKER)
        self.workers[broker] = Worker(self.contexts[broker])
        self.generations[broker] += 1
        self.tell(broker, self.order(broker))

    def turn(self, times: int = 1) -> None:
        """All workers look at what there is, `times` times."""
        for _ in range(times):
            for worker in self.workers:
                if worker is not None:
                    worker.turn()
                    worker._replication.say_marks()  # pyright: ignore[reportPrivateUsage]

    def settle(self) -> None:
        """Until all that live have what the leader has, and know that it is committed."""
        end = -1
        for _ in range(20_000):
            self.turn()
            end = self.replica(self.leader).log.log_end_offset
            live = [broker for broker in self.replicas if self.workers[broker] is not None]
            if all(self.shown(broker) == (end, end) for broker in live):
                return
        raise AssertionError(f"{[self.shown(broker) for broker in self.replicas]} instead of {end}")

    def replica(self, broker: int) -> Replica:
        """That of a broker's worker."""
        worker = self.workers[broker]
        assert worker is not None
        return worker.replicas.by_row[ROWS[broker]]

    def shown(self, broker: int) -> tuple[int, int]:
        """(log end offset, high watermark) in its row."""
        row = self.shared.state_table.read(ROWS[broker])
        return row[LOG_END_OFFSET], row[HIGH_WATERMARK]

    def append(self, *texts: str, size: int = 0, is_shown: bool = True) -> None:
        """The leader appends batches of one record."""
        replica, worker = self.replica(self.leader), self.workers[self.leader]
        assert worker is not None
        for text in texts:
            data = batch(text.ljust(size, "."))
            replica.log.append_as_leader(data, replica.led_epoch, NOW)
            if not is_shown:
                continue
            if worker.replicas.commit is None:
                worker.replicas.touched.add(replica)
            else:
                worker.replicas.commit.appended(replica)
            worker.publish()

    def close(self) -> None:
        """The end of all of it."""
        for worker in self.workers:
            if worker is not None:
                worker.close()
        for context in (*self.contexts, self.controller):
            context.links.close()
        close_shared(self.shared)


NOW = 1_700_000_000_000


@contextmanager
def replicated_run(path: Path, **settings: str) -> Generator[ReplicatedRun, None, None]:
    """One that is closed at the end."""
    run_dir = RunDir.create(str(path))
    run = ReplicatedRun(path, run_dir, **settings)
    try:
        yield run
    finally:
        run.close()
        run_dir.remove()
