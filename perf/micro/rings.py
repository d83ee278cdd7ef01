"""`python -m perf.micro.rings`: what the shared-memory data path costs, by operation and across processes."""

import os
import select
import sys
import time
from collections.abc import Callable

from tailrace.shm.arena import Arena
from tailrace.shm.doorbell import Bells, Doorbell, make_eventfd
from tailrace.shm.links import BYTES, DESCRIPTOR, HeadTable, Links
from tailrace.shm.names import RunDir
from tailrace.shm.ring import ByteConsumer, DescriptorConsumer, pack_entry
from tailrace.shm.slots import GATEWAY, WORKER, SlotTable
from tailrace.shm.state_table import HIGH_WATERMARK, RowWriter, StateTable
from tailrace.shm.waiters import WaiterTable
from tailrace.shm.words import fence

SLOTS = 68
GATEWAY_SLOT, WORKER_SLOT = 2, 4
LOOPS = 200_000
REQUESTS = 300_000
ROUND_TRIPS = 50_000


def report(name: str, loops: int, work: Callable[[int], object]) -> None:
    """The best of three, in nanoseconds an operation."""
    best = float("inf")
    for _ in range(3):
        begin = time.perf_counter()
        work(loops)
        best = min(best, time.perf_counter() - begin)
    print(f"{name:46} {best / loops * 1e9:8.0f} ns")


class Machine:
    """The shared memory of a run with one gateway and one worker."""

    def __init__(self, run_dir: RunDir) -> None:
        self.run_dir = run_dir
        self.slots = SlotTable.create(run_dir.file("slots"), SLOTS)
        self.heads = HeadTable.create(run_dir.file("heads"), SLOTS)
        self.eventfds = [make_eventfd() for _ in range(SLOTS)]
        self.slots.begin(GATEWAY_SLOT, GATEWAY, 0, 0)
        self.slots.begin(WORKER_SLOT, WORKER, 0, 0)

    def renew(self) -> None:
        """New incarnations of both: rings are never used again."""
        for slot, role in ((GATEWAY_SLOT, GATEWAY), (WORKER_SLOT, WORKER)):
            self.slots.mark_dead(slot, self.slots.incarnation(slot))
            self.slots.begin(slot, role, 0, 0)

    def links(self, slot: int) -> Links:
        """The rings of one of the two."""
        return Links(self.run_dir.path, self.slots, self.heads, slot, self.slots.incarnation(slot))


class Side:
    """A process's loop: take all there is, push as much, publish and ring once; park when idle."""

    def __init__(self, machine: Machine, slot: int, peer: int) -> None:
        self.links = machine.links(slot)
        producer = self.links.outgoing(peer, DESCRIPTOR)
        assert producer is not None
        self.producer, self.peer = producer, peer
        self.bells = Bells(machine.slots, machine.eventfds)
        self.bell = Doorbell(machine.slots, slot, machine.eventfds[slot], edge_triggered=True)
        self._epoll = select.epoll()
        self._epoll.register(machine.eventfds[slot], select.EPOLLIN | select.EPOLLET)

    def send(self, count: int) -> None:
        """Push `count` entries and show them."""
        push, pack = self.producer.try_push, pack_entry
        for number in range(count):
            if not push(pack(number, 1, 2, 3, 4, 5, 6, 7)):
                raise RuntimeError("more in flight than the ring holds")
        self.producer.publish()
        self.bells.ring(self.peer)

    def receive(self) -> int:
        """Wait until something comes; returns how many entries."""
        count = 0
        while not count:
            for _, _, consumer in self.links.poll():
                assert isinstance(consumer, DescriptorConsumer)
                count += len(consumer.pop_all())
            if not count:
                self.bell.park(self._epoll.poll, self.links.has_work, None)
        return count

    def serve(self, requests: int) -> None:
        """Answer each entry with one."""
        while requests > 0:
            count = self.receive()
            self.send(count)
            requests -= count


def between_processes(machine: Machine, in_flight: int, requests: int) -> None:
    """Entries to a forked worker and back, `in_flight` of them on the way."""
    sys.stdout.flush()
    machine.renew()
    pid = os.fork()
    if not pid:
        Side(machine, WORKER_SLOT, GATEWAY_SLOT).serve(requests)
        os._exit(0)
    side = Side(machine, GATEWAY_SLOT, WORKER_SLOT)
    begin = time.perf_counter()
    side.send(in_flight)
    sent, received = in_flight, 0
    while received < requests:
        count = side.receive()
        received += count
        again = min(count, requests - sent)
        if again:
            side.send(again)
            sent += again
    taken = time.perf_counter() - begin
    os.waitpid(pid, 0)
    side.links.close()
    missed = sum(machine.slots.missed_wakeups(slot) for slot in (GATEWAY_SLOT, WORKER_SLOT))
    name = f"round trips between processes, {in_flight} in flight"
    print(f"{name:46} {taken / requests * 1e9:8.0f} ns  {requests / taken:9.0f}/s  missed wake-ups {missed}")


def one_process(machine: Machine) -> None:
    """Rings with both ends here: no cache line travels."""
    gateway, worker = machine.links(GATEWAY_SLOT), machine.links(WORKER_SLOT)
    producer = gateway.outgoing(WORKER_SLOT, DESCRIPTOR)
    frames = worker.outgoing(GATEWAY_SLOT, BYTES)
    assert producer is not None
    assert frames is not None
    entry = pack_entry(*range(8))
    producer.try_push(entry)
    producer.publish()
    ((_, _, consumer),) = worker.poll()
    assert isinstance(consumer, DescriptorConsumer)

    def singles(loops: int) -> None:
        for _ in range(loops):
            producer.try_push(entry)
            producer.publish()
            consumer.pop_all()

    def runs(loops: int) -> None:
        for _ in range(loops // 100):
            for _ in range(100):
                producer.try_push(entry)
            producer.publish()
            consumer.pop_all()

    def polls(loops: int) -> None:
        for _ in range(loops):
            producer.try_push(entry)
            producer.publish()
            for _, _, unread in worker.poll():
                assert isinstance(unread, DescriptorConsumer)
                unread.pop_all()

    def idle(loops: int) -> None:
        for _ in range(loops):
            worker.has_work()

    def talk(loops: int) -> None:
        payload = bytes(200)
        for _ in range(loops):
            frames.try_push(payload)
            for _, _, unread in gateway.poll():
                assert isinstance(unread, ByteConsumer)
                unread.pop()

    report("entry: push, publish, pop, one by one", LOOPS, singles)
    report("entry: push, pop, in runs of 100", LOOPS, runs)
    report("entry: push, publish, poll, pop, one by one", LOOPS, polls)
    report("200-byte frame: push, poll, pop", LOOPS, talk)
    report(f"has_work among {SLOTS} producers, idle", LOOPS, idle)
    gateway.close()
    worker.close()


def tables(machine: Machine) -> None:
    """Fences, bells, rows, waiters and blocks."""
    state = StateTable.create(machine.run_dir.file("state"))
    waiters = WaiterTable.create(machine.run_dir.file("waiters"), state.rows)
    arena = Arena.create(machine.run_dir.file("arena"), 4 << 20)
    bells = Bells(machine.slots, machine.eventfds)
    writer = RowWriter(state, 5)

    def allocate(loops: int) -> None:
        for _ in range(loops):
            position = arena.allocate(300)
            assert position is not None
            arena.free(position)

    def publish(loops: int) -> None:
        for number in range(loops):
            writer.values[HIGH_WATERMARK] = number
            writer.publish()

    def repeat(work: Callable[[], object]) -> Callable[[int], object]:
        def loop(loops: int) -> None:
            for _ in range(loops):
                work()

        return loop

    report("pack an entry", LOOPS, repeat(lambda: pack_entry(1, 2, 3, 4, 5, 6, 7, 8)))
    report("fence", LOOPS, repeat(fence))
    report("ring a slot that is awake", LOOPS, repeat(lambda: bells.ring(WORKER_SLOT)))
    report("row: change a word and publish", LOOPS, publish)
    report("row: read", LOOPS, repeat(lambda: state.read(5)))
    report("row: read the high watermark", LOOPS, repeat(lambda: state.read_word(5, HIGH_WATERMARK)))
    report("waiters: nobody waits", LOOPS, repeat(lambda: waiters.satisfied(5, 1)))
    waiters.want(5, 0, 0)
    report("waiters: one is satisfied", LOOPS, repeat(lambda: waiters.satisfied(5, 1)))
    report("arena: allocate and free", LOOPS, allocate)


def main() -> None:
    """Print every figure."""
    run_dir = RunDir.create()
    try:
        machine = Machine(run_dir)
        one_process(machine)
        tables(machine)
        between_processes(machine, 1, ROUND_TRIPS)
        for in_flight in (5, 64):
            between_processes(machine, in_flight, REQUESTS)
    finally:
        run_dir.remove()


if __name__ == "__main__":
    main()
