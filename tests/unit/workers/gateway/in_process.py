"""A real gateway and a real worker in the process of the test, over real shared memory and real sockets; the
test turns each of them by hand.
"""

import errno
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from perf import wire
from perf.batches import batch_of_size
from tailrace.core.metadata.records import PartitionRecord, TopicRecord
from tailrace.shm.names import RunDir
from tailrace.shm.ring import DescriptorConsumer
from tailrace.shm.slots import GATEWAY, WORKER
from tailrace.shm.state_table import HIGH_WATERMARK, ROLE, RowWriter
from tailrace.workers import control
from tailrace.workers.gateway.connection import Connection
from tailrace.workers.gateway.gateway import Gateway
from tailrace.workers.process import ProcessContext
from tailrace.workers.worker import Worker
from tests.support.shared import close_shared, make_shared

GATEWAY_AT, WORKER_AT = 2, 4
TOPIC, TOPIC_ID = "topic", bytes(15) + b"\x01"
BATCH = batch_of_size(61 + 120, 120).data


class InProcess:
    """One topic with one partition on row 1, led or not."""

    def __init__(self, path: Path, run_dir: RunDir, **settings: str) -> None:
        self.path = path
        self.shared = make_shared(path, run_dir, **settings)
        self.slots = self.shared.slots
        self.gateway = Gateway(self.begin(GATEWAY_AT, GATEWAY))
        self.gateway.open()
        self.clients: list[socket.socket] = []
        self.worker = self.begin(WORKER_AT, WORKER)
        self.leader = Worker(self.worker)
        topic = TopicRecord(name=TOPIC, topic_id=TOPIC_ID)
        partition = PartitionRecord(
            topic_id=TOPIC_ID,
            partition=0,
            replicas=(0,),
            isr=(0,),
            leader=0,
            leader_epoch=0,
            partition_epoch=0,
        )
        self.gateway.image.replay([topic, partition], 2)

    def begin(self, slot: int, role: int) -> ProcessContext:
        """A process takes the slot."""
        return ProcessContext(self.shared, slot, self.slots.begin(slot, role, 0, 0))

    def lead(self, generation: int = 1, row: int = 1, *, is_told: bool = True) -> None:
        """The worker leads the partition, and the gateway knows."""
        order = control.ServeReplica(
            topic=TOPIC, topic_id=TOPIC_ID, partition=0, row=row, row_generation=generation,
            leader_epoch=generation, log_dir=str(self.path), configs={}, is_new=False,
            leader=0, replicas=(0,), isr=(0,), partition_epoch=0,
        )  # fmt: skip
        self.leader.replicas.serve(order)  # pyright: ignore[reportPrivateUsage]
        if is_told:
            self.assign(generation, row)

    def assign(
        self,
        generation: int = 1,
        row: int = 1,
        worker: ProcessContext | None = None,
        others: tuple[control.ReplicaPlace, ...] = (),
    ) -> None:
        """The gateway hears of the leader."""
        self.gateway._on_message(  # pyright: ignore[reportPrivateUsage]
            control.Assigned(
                topic=TOPIC, topic_id=TOPIC_ID, partition=0, broker=0, row=row, row_generation=generation,
                worker_slot=WORKER_AT, worker_incarnation=(worker or self.worker).incarnation,
                leader_epoch=generation, log_dir=str(self.path), replicas=others,
            )
        )  # fmt: skip

    def dial(self) -> tuple[socket.socket, Connection]:
        """A client, and what the gateway has of it."""
        client = socket.create_connection(self.gateway.tcp_address, 20)
        self.clients.append(client)
        before = set(self.gateway.connections)
        while not (new := set(self.gateway.connections) - before):
            self.turn()
        return client, self.gateway.connections[new.pop()]

    def turn(self, times: int = 1) -> None:
        """The gateway, then the worker, then the gateway look at what there is."""
        for _ in range(times):
            self.gateway._turn_once(0.002)  # pyright: ignore[reportPrivateUsage]
            for slot, incarnation, ring in self.worker.links.poll():
                assert isinstance(ring, DescriptorConsumer)
                self.leader.appends.take(slot, incarnation, ring)  # pyright: ignore[reportPrivateUsage]
            self.gateway._turn_once(0.0)  # pyright: ignore[reportPrivateUsage]

    def answers(self, client: socket.socket, count: int) -> list[bytes]:
        """The next answers to a client."""
        client.setblocking(False)
        found: list[bytes] = []
        data = b""
        for _ in range(2000):
            while len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[:4]):
                size = int.from_bytes(data[:4])
                found.append(data[4 : 4 + size])
                data = data[4 + size :]
            if len(found) >= count:
                assert not data
                return found
            self.turn()
            try:
                got = client.recv(1 << 20)
            except BlockingIOError:
                continue
            assert got, "the gateway closed the connection"
            data += got
        raise AssertionError(f"{len(found)} answers instead of {count}")

    def blocks_taken(self) -> int:
        """Blocks of the arena that somebody holds."""
        return sum(self.gateway.buffers._arena._taken)  # pyright: ignore[reportPrivateUsage]

    def set_role(self, role: int) -> None:
        """The owner of the row says so."""
        writer = RowWriter(self.shared.state_table, 1)
        writer.values[ROLE] = role
        writer.publish()

    def set_high_watermark(self, row: int, offset: int) -> None:
        """Whoever has the row now has got so far."""
        writer = RowWriter(self.shared.state_table, row)
        writer.values[HIGH_WATERMARK] = offset
        writer.publish()

    def fail_disk(self) -> None:
        """The worker meets an error of the disk."""
        replica = self.leader.replicas.by_row[1]  # pyright: ignore[reportPrivateUsage]
        try:
            raise OSError(errno.EIO, "the disk is broken")
        except OSError as error:
            self.leader.replicas.fail(replica, error)  # pyright: ignore[reportPrivateUsage]

    def stop(self) -> None:
        """Everything is closed."""
        for client in self.clients:
            client.close()
        self.gateway.close()
        self.gateway._listeners.close()  # pyright: ignore[reportPrivateUsage]
        self.leader.close()
        close_shared(self.shared)


@contextmanager
def in_process(path: Path, **settings: str) -> Generator[InProcess, None, None]:
    """One of them, gone afterwards."""
    run_dir = RunDir.create()
    try:
        made = InProcess(path, run_dir, **settings)
        try:
            yield made
        finally:
            made.stop()
    finally:
        run_dir.remove()


def fetch_frame(offset: int, *, wait_ms: int, correlation_id: int = 0) -> bytes:
    """A fetch that waits for so long."""
    frame = wire.fetch_frame(TOPIC, offset, 1 << 20, correlation_id)
    old, new = (value.to_bytes(4) for value in (500, wait_ms))
    at = frame.index(b"\xff\xff\xff\xff" + old)
    return frame[: at + 4] + new + frame[at + 8 :]


def produce_frame(correlation_id: int = 0, acks: int = -1, batch: bytes = BATCH) -> bytes:
    """One batch."""
    return wire.produce_frame(TOPIC, batch, acks, correlation_id)


def correlation_ids(answers: list[bytes]) -> list[int]:
    """Whose answers they are."""
    return [int.from_bytes(answer[:4]) for answer in answers]
