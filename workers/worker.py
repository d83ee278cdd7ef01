"""A worker: a process that holds replicas of partitions, leads some of them and follows others.

One turn: take all that the rings hold, in runs; append; show the rows that moved; only then tell gateways and
followers, so that whoever hears of an append can read it.
"""

import time

from tailrace.core.errors import KafkaError
from tailrace.core.log.directory import is_full
from tailrace.shm.doorbell import LONG, USUAL
from tailrace.shm.ring import ByteConsumer, DescriptorConsumer
from tailrace.shm.slots import WORKER, Layout
from tailrace.shm.state_table import HIGH_WATERMARK
from tailrace.shm.words import fence
from tailrace.workers.appends import NO_RING_S, Appends
from tailrace.workers.completions import Completions
from tailrace.workers.flusher import Flusher
from tailrace.workers.held_acks import HeldAcks
from tailrace.workers.leader_asks import Asks
from tailrace.workers.process import ProcessContext
from tailrace.workers.replica import Replica
from tailrace.workers.replicas import Replicas

TICK_S = 1.0


class Worker:
    """The loop of one worker process."""

    def __init__(self, context: ProcessContext) -> None:
        self._context = context
        self._last_tick_ms = 0
        self._flusher: Flusher[Replica] = Flusher()
        self.completions = Completions(context)
        self.asks = Asks(context, self.completions)
        self._held = HeldAcks(self.completions)
        self.replicas = Replicas(context, self._held, self.asks, self._take_flushed)
        self._replication = self.replicas.replication
        self._commit = self.replicas.commit
        self.appends = Appends(context, self.replicas, self.completions, self._held, self.asks, self.publish)

    def serve(self) -> None:
        """Turn until a stop is asked for."""
        while not self._context.stopping:
            self.turn()
            self._sleep()

    def turn(self) -> None:
        """All that can be done now."""
        context, replicas, replication = self._context, self.replicas, self._replication
        links = context.links
        found = links.poll()
        for slot, incarnation in links.drop_dead():  # (R) first: a successor may have asked already
            self._forget(slot, incarnation)
        for slot, incarnation, ring in found:
            if isinstance(ring, DescriptorConsumer):
                self.appends.take(slot, incarnation, ring)
            elif context.slots.role(slot) == WORKER:
                if not replication.on_frames(slot, incarnation, ring):
                    context.pause(NO_RING_S)
            else:
                self._obey(slot, incarnation, ring)
        if replication.is_connected:
            replication.turn()
        if self._commit is not None:
            self._commit.turn()
        for coordinator in list(replicas.coordinators.values()):
            coordinator.turn()
        if replicas.futures.is_active:
            replicas.futures.turn()
        if replicas.touched or (replication.is_connected and replication.has_followed):
            self.publish()
        replication.ring()
        context.outbox.flush()
        if self.completions.is_waiting:
            self.completions.send_waiting()
        now_ms = time.monotonic_ns() // 1_000_000
        if now_ms - self._last_tick_ms >= TICK_S * 1000:
            self._last_tick_ms = now_ms
            self.tick()

    def _obey(self, slot: int, incarnation: int, ring: ByteConsumer) -> None:
        context = self._context
        for message in context.inbox.read(slot, incarnation, ring):
            if context.obeys(slot):
                self.replicas.obey(slot, message)

    def _sleep(self) -> None:
        context, replication = self._context, self._replication
        is_more = replication.is_connected or self.replicas.futures.is_active
        has_work = self._has_work if is_more else context.has_work
        if has_work():
            return
        is_syncing = self._commit is not None and self._commit.is_syncing  # or that thread would wait
        patience = LONG if replication.is_active else USUAL
        if not is_syncing and context.doorbell.linger(has_work, patience=patience) is not None:
            return
        if replication.is_active:
            replication.before_sleep()
        context.wait(self._timeout_s(), has_work)

    def _has_work(self) -> bool:
        return self._context.has_work() or self._replication.has_work() or self.replicas.futures.has_work()

    def _timeout_s(self) -> float:
        if self.completions.is_waiting:
            return 0.005
        commit_s = TICK_S if self._commit is None else self._commit.timeout_s()
        others = [one.timeout_s() for one in self.replicas.coordinators.values()]
        futures_s = self.replicas.futures.timeout_s()
        return min([TICK_S, commit_s, self._replication.timeout_s(), futures_s, *others])

    def publish(self) -> None:
        """Show what was touched: to readers, to followers, and then to those who wait for it (R)."""
        replicas, replication = self.replicas, self._replication
        touched = replicas.touched
        shown: list[Replica] = []
        while touched:
            replica = touched.pop()
            try:
                if replica.leading is not None:
                    replica.leading.replicate()
                replica.publish()
            except (OSError, KafkaError) as error:
                replicas.fail(replica, error)  # and perhaps others with it
                shown = [each for each in shown if replicas.by_row.get(each.row.row) is each]
            else:
                shown.append(replica)
        if replication.is_active:
            shown += replication.show_followed()
            replication.ring()
        fence()  # pairs with the waiters': the rows are published before their words are read (R)
        waiters = self._context.waiters
        for replica in shown:
            row = replica.row.row
            for waiter in waiters.satisfied(row, replica.row.values[HIGH_WATERMARK]):
                self.completions.notice(Layout.gateway(waiter), row)
            if self._held.waiting:
                self._held.release(replica)
        if self._commit is not None:
            self._commit.ask(shown)

    def tick(self) -> None:
        """What comes with time: rolls by age, expired producers, flushes."""
        self._take_flushed()
        now_ms = time.time_ns() // 1_000_000
        by_row = self.replicas.by_row
        for row, replica in list(by_row.items()):
            if row not in by_row:  # it went out of service with one before
                continue
            self._context.slots.set_current_row(self._context.slot, row)
            try:
                replica.log.tick(now_ms)
                if self._commit is None:
                    self._flusher.start_due(replica, now_ms)
            except (OSError, KafkaError) as error:
                if not is_full(error):  # or it is done at a later tick
                    self.replicas.fail(replica, error)
        if self._commit is not None:
            self._commit.tick(list(by_row.values()))
        self._context.slots.set_current_row(self._context.slot, -1)

    def _take_flushed(self, wait: bool = False) -> None:
        if self._commit is not None and wait:
            self._commit.finish()
        for replica, error in self._flusher.take_done(wait=wait):
            if self.replicas.by_row.get(replica.row.row) is not replica:
                continue  # deleted or failed meanwhile
            if error is None:
                replica.publish_recovery_point(replica.log.recovery_point)
            else:
                self.replicas.fail(replica, error)

    def _forget(self, slot: int, incarnation: int) -> None:
        self.appends.forget(slot, incarnation)
        self.completions.forget(slot)
        self.asks.forget(slot, incarnation)
        self._replication.bury(slot, incarnation)

    def close(self) -> None:
        """Close every log cleanly; the rows stay, led by nobody."""
        self._take_flushed(wait=True)  # (R) an error that a sync has reported is not reported again
        self.publish()
        self.completions.send_waiting()  # what is held still is not acknowledged: gateways hear of our end
        self.replicas.close_all()


def run(context: ProcessContext) -> None:
    """Hold what the controller says until SIGTERM."""
    worker = Worker(context)
    context.ready()
    worker.serve()
    worker.close()
