"""One replica that moves between two log directories: a real worker, the test is the controller, and what
dies at which call to the disk.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import PartitionRecord, TopicRecord
from tailrace.shm.names import RunDir
from tailrace.shm.ring import ByteConsumer
from tailrace.shm.slots import CONTROLLER, WORKER
from tailrace.workers import control
from tailrace.workers.control_moves import CompleteMove, CopyMade, MoveEnded
from tailrace.workers.process import ProcessContext
from tailrace.workers.replica import Replica
from tailrace.workers.survey import Survey
from tailrace.workers.worker import Worker
from tests.support.shared import LAYOUT, WORKER_SLOT, close_shared, make_shared
from tests.unit.log.logs import NOW, batch

TOPIC, TOPIC_ID, ROW = "t", bytes(15) + b"\x01", 5
SYNCS = ("fsync", "fdatasync")  # which nobody waits for here
CALLS = ("rename", "replace", "unlink", "rmdir", "fsync", "fdatasync", "ftruncate", "pwrite", "makedirs")


class CrashError(BaseException):
    """The process is dead."""


class Crash:
    """It comes at the call of this number to the disk; never if that is not reached."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int) -> None:
        self.calls, self._at = 0, at
        self.is_armed = False
        for name in CALLS:
            patch.setattr(os, name, self._dying(getattr(os, name)))

    def _dying(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            if self.is_armed and threading.current_thread() is threading.main_thread():
                self.calls += 1
                if self.calls == self._at:
                    self.is_armed = False
                    raise CrashError
            return None if call.__name__ in SYNCS else call(*arguments, **options)

        return wrapped


class Run:
    """One run of a broker with the directories a and b of `path`; what is committed outlives it."""

    def __init__(self, path: Path, committed: str = "a", epoch: int = 0) -> None:
        self.path, self.run_dir = path, RunDir.create()
        self.dirs = {name: str(path / name) for name in ("a", "b")}
        for name in self.dirs.values():
            Path(name).mkdir(exist_ok=True, parents=True)
        paths = ",".join(self.dirs.values())
        self.shared = make_shared(
            path / "data",
            self.run_dir,
            log_dirs=paths,
            disk_reserve_bytes="0",
            log_segment_bytes=str(1 << 20),
            log_index_size_max_bytes="4096",
        )
        self.slots = self.shared.slots
        self.controller = self.begin(LAYOUT.controller(0), CONTROLLER)
        self.slots.set_active_epoch(self.controller.slot, 1)
        self.committed, self.epoch, self.generation = committed, epoch, 0
        self.future = ""
        self.is_new = False
        self.said: list[control.Message] = []
        self.worker = Worker(self.begin(WORKER_SLOT, WORKER))

    def begin(self, slot: int, role: int) -> ProcessContext:
        """A process takes the slot."""
        return ProcessContext(self.shared, slot, self.slots.begin(slot, role, 0, 0))

    # -- the controller

    def id_of(self, name: str) -> str:
        """Of a directory."""
        return {each.path: each.directory_id for each in self.shared.brokers[0].log_dirs.dirs}[
            self.dirs[name]
        ]

    def order(self) -> control.ServeReplica:
        """What the worker is told now."""
        return control.ServeReplica(
            topic=TOPIC, topic_id=TOPIC_ID, partition=0, row=ROW, row_generation=self.generation,
            leader_epoch=self.epoch, log_dir=self.dirs[self.committed], configs={}, is_new=self.is_new,
            leader=0, replicas=(0,), isr=(0,), partition_epoch=self.epoch,
            future_log_dir=self.dirs.get(self.future, ""),
        )  # fmt: skip

    def serve(self, *, anew: bool = True) -> None:
        """It leads in its next epoch, from what is committed; or it only hears what has changed."""
        if anew:
            self.epoch, self.generation = self.epoch + 1, self.generation + 1
        self.tell(self.order())

    def tell(self, message: control.Message) -> None:
        """The worker obeys."""
        self.worker.replicas.obey(self.controller.slot, message)

    def listen(self) -> None:
        """What the worker says."""
        self.worker._context.outbox.flush()  # pyright: ignore[reportPrivateUsage]
        for slot, incarnation, ring in self.controller.links.poll():
            assert isinstance(ring, ByteConsumer)
            self.said += self.controller.inbox.read(slot, incarnation, ring)

    def take(self, kind: type[Any]) -> list[Any]:
        """What was said of this kind since the last call."""
        self.listen()
        found = [message for message in self.said if isinstance(message, kind)]
        self.said = [message for message in self.said if not isinstance(message, kind)]
        return found

    def copy(self, target: str) -> None:
        """It is to move, and the copy is made."""
        self.future = target
        self.serve(anew=False)
        for _ in range(10_000):
            self.worker.turn()
            if self.take(CopyMade):
                return
        raise AssertionError("no copy")

    def complete(self) -> bool:
        """The worker lets go. Whether the copy is complete."""
        self.tell(CompleteMove(row=ROW, row_generation=self.generation, leader_epoch=self.epoch))
        (ended,) = self.take(MoveEnded)
        assert isinstance(ended, MoveEnded)
        return ended.is_complete

    def commit(self) -> None:
        """The new directory."""
        self.committed, self.future = self.future, ""

    def delete(self) -> None:
        """Its topic is gone."""
        self.tell(
            control.StopReplica(
                topic=TOPIC, topic_id=TOPIC_ID, partition=0, row=ROW, row_generation=self.generation,
                log_dir=self.dirs[self.committed], delete=True,
            )
        )  # fmt: skip

    def move(self, target: str) -> None:
        """All of it."""
        self.copy(target)
        assert self.complete()
        self.commit()
        self.serve()

    # -- the log

    @property
    def replica(self) -> Replica:
        """The only one."""
        return self.worker.replicas.by_row[ROW]

    def append(self, *texts: str) -> None:
        """Acknowledged."""
        replica = self.replica
        assert replica.leads, "only a leader appends"
        for text in texts:
            replica.log.append_as_leader(batch(text.ljust(200, ".")), replica.led_epoch, NOW)
            self.worker.replicas.touched.add(replica)
            self.worker.publish()

    def shown(self) -> tuple[int, int, bytes]:
        """Where the log starts and ends, and its batches but for their epochs."""
        log = self.replica.log
        found: list[bytes] = []
        for segment in log.segments:
            data = Path(self.replica.path, f"{segment.base_offset:020d}.log").read_bytes()[: segment.size]
            at = 0
            while at < len(data):
                size = int.from_bytes(data[at + 8 : at + 12], "big") + 12
                if int.from_bytes(data[at : at + 8], "big") >= log.log_start_offset:
                    found.append(data[at : at + 12] + data[at + 16 : at + size])
                at += size
        return log.log_start_offset, log.log_end_offset, b"".join(found)

    def names(self) -> list[str]:
        """All directories of the replica."""
        return sorted(
            f"{name}/{each.partition('.')[0]}{each[each.rindex('-') :] if '.' in each else ''}"
            for name, path in self.dirs.items()
            for each in os.listdir(path)
            if each.startswith("t-0")
        )

    # -- deaths

    def next_worker(self) -> None:
        """It is killed, and its successor is told."""
        self.begin_worker()
        self.serve()

    def begin_worker(self) -> None:
        """It is killed, and its successor is told nothing yet."""
        for replica in self.worker.replicas.by_row.values():
            replica.log.close(clean=False)
        context = self.worker._context  # pyright: ignore[reportPrivateUsage]
        self.slots.mark_dead(context.slot, context.incarnation)
        self.worker = Worker(self.begin(WORKER_SLOT, WORKER))

    def place(self) -> tuple[str, str]:
        """Where a controller that begins finds it, and where to it moves."""
        image = MetadataImage()
        partition = PartitionRecord(
            topic_id=TOPIC_ID, partition=0, replicas=(0,), isr=(0,), leader=0, leader_epoch=0,
            partition_epoch=0, directories=(self.id_of(self.committed),),
        )  # fmt: skip
        image.replay([TopicRecord(name=TOPIC, topic_id=TOPIC_ID), partition], 2)
        survey = Survey(self.shared.brokers[0].log_dirs, image, 0, (), first_of_run=True)
        topic = image.topics_by_name[TOPIC]
        place = survey.place(topic, topic.partitions[0])
        return place.path, survey.moving_to("t-0", TOPIC_ID)

    def next_run(self) -> "Run":
        """All of it is killed, and started again."""
        self.end()
        run = Run(self.path, self.committed, self.epoch)
        by_path = {path: name for name, path in run.dirs.items()} | {"": ""}
        path, target = run.place()
        run.committed, run.future = by_path[path], "" if target == path else by_path[target]
        run.serve()
        return run

    def end(self) -> None:
        """Nothing is left."""
        for replica in self.worker.replicas.by_row.values():
            replica.log.close(clean=False)
        self.worker.replicas.futures.close()
        self.worker.replicas.by_row.clear()
        self.worker._context.links.close()  # pyright: ignore[reportPrivateUsage]
        self.controller.links.close()
        close_shared(self.shared)
        self.run_dir.remove()
