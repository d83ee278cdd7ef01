"""From a worker's log to the files of the log directory and back, in one process: the worker, the writer of
the files and the metadata are real, on real shared memory.
"""

# pyright: reportPrivateUsage=false

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from errno import EIO, ENOSPC
from pathlib import Path

import pytest

from tailrace.core.log import checkpoints
from tailrace.core.log.checkpoints import (
    HIGH_WATERMARKS,
    LOG_STARTS,
    OFFSET_FILES,
    RECOVERY_POINTS,
    read_clean_mark,
    read_offsets,
    write_offsets,
)
from tailrace.core.log.directory import Buffer, RealDirectory
from tailrace.core.log.flush import Flush, SyncFailedError
from tailrace.core.log.log_config import LogConfig
from tailrace.core.metadata.records import PartitionRecord, TopicRecord, TopicRemoved
from tailrace.shm.names import RunDir
from tailrace.shm.slots import CONTROLLER, HOUSEKEEPER, WORKER
from tailrace.shm.state_table import (
    HIGH_WATERMARK,
    LOG_START_OFFSET,
    RECOVERY_POINT,
    ROLE,
    ROLE_OFFLINE,
    SYNC_FAILED,
    RowWriter,
)
from tailrace.workers import control
from tailrace.workers.checkpointer import Checkpointer, CheckpointWriter
from tailrace.workers.metadata_log import open_metadata_log
from tailrace.workers.partition_answers import decode_offset, delete_records, encode
from tailrace.workers.process import ProcessContext
from tailrace.workers.replica import Replica
from tailrace.workers.worker import Worker
from tests.support.shared import DIRECTORY_ID, LAYOUT, WORKER_SLOT, close_shared, make_shared
from tests.unit.log.logs import NOW, batch, fill

TOPIC, KEY = "topic", ("topic", 0)


def topic_id(number: int) -> bytes:
    """A topic's id."""
    return bytes(15) + bytes([number])


class Run:
    """One run of a broker on a data directory; a second one on the same path is the next run."""

    def __init__(self, path: Path) -> None:
        self.path, self.run_dir = path, RunDir.create()
        self.directory = RealDirectory(str(path))
        self.shared = make_shared(path, self.run_dir)
        self.metadata = open_metadata_log(self.begin(LAYOUT.controller(0), CONTROLLER))
        self.metadata.commit()
        self.leader = Worker(self.begin(WORKER_SLOT, WORKER))
        self.writer = CheckpointWriter(self.begin(LAYOUT.housekeeper(0), HOUSEKEEPER))

    def begin(self, slot: int, role: int) -> ProcessContext:
        """A process takes the slot."""
        return ProcessContext(self.shared, slot, self.shared.slots.begin(slot, role, 0, 0))

    def next_worker(self) -> None:
        """The worker is killed; another one takes its slot."""
        for replica in self.leader.replicas.by_row.values():
            replica.log.close(clean=False)
        self.shared.slots.mark_dead(WORKER_SLOT, self.shared.slots.incarnation(WORKER_SLOT))
        self.leader = Worker(self.begin(WORKER_SLOT, WORKER))

    def end(self) -> None:
        """As a crash leaves it."""
        self.metadata.close()
        close_shared(self.shared)
        self.run_dir.remove()

    def create(self, number: int = 1, name: str = TOPIC) -> None:
        """The controller commits a topic, whose first replica another broker has."""
        topic = TopicRecord(name=name, topic_id=topic_id(number))
        partition = PartitionRecord(
            topic_id=topic_id(number), partition=0, replicas=(7, 0), isr=(0,), leader=0, leader_epoch=0,
            partition_epoch=0, directories=("another broker's", DIRECTORY_ID),
        )  # fmt: skip
        self.metadata.stage([topic, partition], NOW)
        self.metadata.commit()

    def remove(self, number: int = 1, row: int = 1, generation: int = 1, name: str = TOPIC) -> None:
        """The controller commits that a topic is gone, and tells the worker."""
        self.metadata.stage([TopicRemoved(topic_id=topic_id(number))], NOW)
        self.metadata.commit()
        self.leader.replicas.stop(
            control.StopReplica(
                topic=name, topic_id=topic_id(number), partition=0, row=row, row_generation=generation,
                log_dir=str(self.path), delete=True,
            )
        )  # fmt: skip

    def lead(self, number: int = 1, row: int = 1, generation: int = 1, name: str = TOPIC) -> Replica:
        """The worker opens the log."""
        self.try_to_lead(number, row, generation, name)
        return self.leader.replicas.by_row[row]

    def try_to_lead(self, number: int = 1, row: int = 1, generation: int = 1, name: str = TOPIC) -> bool:
        """Whether it does."""
        order = control.ServeReplica(
            topic=name, topic_id=topic_id(number), partition=0, row=row, row_generation=generation,
            leader_epoch=generation, log_dir=str(self.path), configs={}, is_new=False,
            leader=0, replicas=(0,), isr=(0,), partition_epoch=0,
        )  # fmt: skip
        self.leader.replicas.serve(order)
        return row in self.leader.replicas.by_row

    def word(self, index: int, row: int = 1) -> int:
        """A word of the row."""
        return self.shared.state_table.read_word(row, index)

    def files(self) -> list[checkpoints.Offsets]:
        """What the three files say: recovery points, high watermarks, log starts."""
        return [read_offsets(self.directory, name) for name in OFFSET_FILES]


RunMaker = Callable[[], Run]


@pytest.fixture
def next_run(tmp_path: Path) -> Generator[RunMaker, None, None]:
    """Starts a run, the first or a later one, without the memory of the one before."""
    made: list[Run] = []

    def make() -> Run:
        made.append(Run(tmp_path))
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.fixture
def run(next_run: RunMaker) -> Run:
    """The first run, with a topic that is led."""
    run = next_run()
    run.create()
    run.lead()
    return run


def store(replica: Replica, count: int, *, roll: bool = False) -> None:
    """Batches of one record, published."""
    fill(replica.log, count)
    if roll:
        replica.log.roll(NOW)
    replica.publish()


def tick(run: Run) -> None:
    """The worker's tick, its thread, and the tick after that."""
    run.leader.tick()
    run.leader._take_flushed(wait=True)


def break_sync(monkeypatch: pytest.MonkeyPatch, *, in_background: bool = True) -> None:
    """The disk refuses a sync that the worker's thread asks for, or the loop; the other is not told."""
    original = Flush.run

    def refuse(flush: Flush) -> None:
        if (threading.current_thread() is threading.main_thread()) == in_background:
            original(flush)
        else:
            raise SyncFailedError(EIO, "the disk refuses")

    monkeypatch.setattr(Flush, "run", refuse)


def test_what_was_rolled_is_synced_and_written_down(run: Run) -> None:
    replica = run.leader.replicas.by_row[1]
    store(replica, 3, roll=True)
    store(replica, 2)
    run.writer.write()
    assert run.files() == [{KEY: 0}, {KEY: 5}, {}], "nothing was synced yet"
    tick(run)
    run.writer.write()
    assert run.files() == [{KEY: 3}, {KEY: 5}, {}]


def test_a_clean_stop_leaves_three_files_with_the_ends(run: Run) -> None:
    store(run.leader.replicas.by_row[1], 4)
    run.leader.close()
    run.writer.write(even_unchanged=True)
    assert run.files() == [{KEY: 4}, {KEY: 4}, {}]
    assert all((run.path / name).exists() for name in OFFSET_FILES)


def test_where_a_log_starts_is_written_if_it_is_not_where_it_can(run: Run) -> None:
    replica = run.leader.replicas.by_row[1]
    store(replica, 4)
    replica.log.log_start_offset = 2
    replica.publish()
    run.writer.write()
    assert read_offsets(run.directory, LOG_STARTS) == {KEY: 2}


def test_the_next_run_begins_where_the_files_say(run: Run, next_run: RunMaker) -> None:
    replica = run.leader.replicas.by_row[1]
    store(replica, 3, roll=True)
    store(replica, 2)
    tick(run)
    replica.log.log_start_offset = 1
    replica.publish()
    run.writer.write()
    replica.log.close(clean=False)
    log = next_run().lead().log
    assert (log.recovery_point, log.high_watermark, log.log_start_offset) == (3, 5, 1)


def test_deleted_records_stay_away_whoever_writes_next(run: Run, next_run: RunMaker) -> None:
    """(R) The start is in the file before it is acknowledged; neither the housekeeper nor a lower recovery
    point moves it back.
    """
    replica = run.leader.replicas.by_row[1]
    store(replica, 3, roll=True)
    store(replica, 2)
    tick(run)
    run.writer.write()
    assert decode_offset(delete_records(replica, encode(4))) == 4
    assert (run.files()[2], run.word(LOG_START_OFFSET)) == ({KEY: 4}, 4)
    run.writer.write(even_unchanged=True)
    assert replica.log.on_lowered is not None
    replica.log.on_lowered(0)
    assert run.files() == [{KEY: 0}, {KEY: 0}, {KEY: 4}]
    replica.log.close(clean=False)
    log = next_run().lead().log
    assert (log.log_start_offset, log.log_end_offset) == (4, 5)


def test_a_damaged_file_is_not_believed_and_mended(run: Run, next_run: RunMaker) -> None:
    """(R) Less is trusted, not more."""
    replica = run.leader.replicas.by_row[1]
    store(replica, 3, roll=True)
    tick(run)
    run.writer.write()
    replica.log.close(clean=False)
    (run.path / RECOVERY_POINTS).write_bytes(b"0\n2\ntopic 0 3\n")
    again = next_run()
    replica = again.lead()
    assert replica.log.recovery_point == 0
    tick(again)
    again.writer.write()
    assert again.files()[0] == {KEY: 3}


def test_the_next_worker_goes_on_from_the_row(run: Run) -> None:
    store(run.leader.replicas.by_row[1], 3, roll=True)
    tick(run)
    run.next_worker()
    log = run.lead(generation=2).log
    assert (log.recovery_point, log.high_watermark) == (3, 3), "no file was written so far"


def test_entries_of_the_dead_the_offline_and_the_unopened_stay(run: Run) -> None:
    run.create(2, "other")
    run.create(3, "unopened")
    (run.path / "unopened-0").mkdir()
    store(run.leader.replicas.by_row[1], 2)
    store(run.lead(2, row=2, name="other"), 3)
    run.writer.write()
    offsets = run.files()[1] | {("unopened", 0): 9, ("gone", 0): 9}
    write_offsets(run.directory, HIGH_WATERMARKS, offsets)
    run.next_worker()
    offline = RowWriter(run.shared.state_table, 2)
    offline.values[ROLE], offline.values[HIGH_WATERMARK] = ROLE_OFFLINE, 0
    offline.publish()
    run.writer.write()
    assert run.files()[1] == {KEY: 2, ("other", 0): 3, ("unopened", 0): 9}


def test_a_deleted_topic_vanishes_at_once_and_stays_away(run: Run) -> None:
    run.create(2, "other")
    store(run.lead(2, row=2, name="other"), 3)
    store(run.leader.replicas.by_row[1], 2)
    run.leader.replicas.by_row[1].log.log_start_offset = 1
    run.leader.replicas.by_row[1].publish()
    run.writer.write()
    assert all(KEY in offsets for offsets in run.files())
    run.remove()
    assert not any(KEY in offsets for offsets in run.files()), "before its name is free"
    run.writer.write(even_unchanged=True)
    assert run.files() == [{("other", 0): 0}, {("other", 0): 3}, {}]


def test_the_row_of_a_topic_that_is_gone_says_nothing_of_its_namesake(run: Run) -> None:
    """(R) Its worker died before it heard of the deletion, and nobody cleared the row."""
    run.next_worker()
    replica = run.lead(generation=7)
    store(replica, 5)
    replica.log.flush()
    replica.publish_recovery_point(5)
    run.writer.write()
    assert run.files() == [{KEY: 5}, {KEY: 5}, {}]
    run.next_worker()
    run.remove(generation=7)
    assert run.files() == [{}, {}, {}]
    run.create(2)
    store(run.lead(2, row=2), 1)
    run.writer.write()
    assert run.files() == [{KEY: 0}, {KEY: 1}, {}]


@pytest.mark.parametrize("has_files", [False, True])
def test_a_new_log_does_not_inherit_what_was_written_of_its_namesake(
    next_run: RunMaker, tmp_path: Path, has_files: bool
) -> None:
    """(R) Nor one whose directory belonged to another topic."""
    for name in OFFSET_FILES:
        write_offsets(RealDirectory(str(tmp_path)), name, {KEY: 1000, ("other", 0): 7})
    (tmp_path / "other-0").mkdir()
    if has_files:
        directory = RealDirectory(str(tmp_path / "topic-0"))
        checkpoints.write_partition_metadata(directory, topic_id(9))
        (tmp_path / "topic-0" / f"{0:020d}.log").write_bytes(b"")
    run = next_run()
    run.create()
    log = run.lead().log
    assert (log.recovery_point, log.log_start_offset, log.log_end_offset) == (0, 0, 0)
    assert run.files() == [{("other", 0): 7}] * 3


def test_a_recovery_point_beyond_the_end_is_lowered_before_anything_is_appended(
    run: Run, next_run: RunMaker
) -> None:
    """(R) The disk lost what it said it held; what comes in its place was never synced."""
    store(run.leader.replicas.by_row[1], 3)
    run.leader.replicas.by_row[1].log.close(clean=False)
    write_offsets(run.directory, RECOVERY_POINTS, {KEY: 900})
    again = next_run()
    again.lead()
    assert again.files()[0] == {KEY: 3}


def test_a_recovery_point_is_lowered_in_the_row_and_in_the_file_before_a_cut(run: Run) -> None:
    """(R)"""
    replica = run.leader.replicas.by_row[1]
    store(replica, 6)
    replica.log.flush()
    replica.publish_recovery_point(6)
    run.writer.write()
    lowered = replica.log.on_lowered
    assert lowered is not None

    def look(offset: int) -> None:
        lowered(offset)
        assert replica.log.log_end_offset == 6, "not yet cut"
        assert run.word(RECOVERY_POINT) == 0
        assert run.files()[0] == {KEY: 0}

    replica.log.on_lowered = look
    replica.log.truncate_to(2, NOW)
    assert run.word(RECOVERY_POINT) == 0


def test_rows_are_read_under_the_lock(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """(R) A worker that takes an entry back while the writer waits for the lock finds nobody to undo it."""
    store(run.leader.replicas.by_row[1], 6)
    original = RealDirectory.locked
    waiting = [True]

    @contextmanager
    def locked(directory: RealDirectory, name: str) -> Generator[None, None, None]:
        if waiting:
            waiting.clear()
            run.remove()
        with original(directory, name):
            yield

    monkeypatch.setattr(RealDirectory, "locked", locked)
    run.writer.write()
    assert run.files() == [{}, {}, {}]


def test_a_sync_that_failed_is_not_tried_again_in_this_run(
    run: Run, next_run: RunMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(R) The replica goes offline, its neighbour goes on, and the file keeps what was true before."""
    replica = run.leader.replicas.by_row[1]
    run.create(2, "other")
    store(run.lead(2, row=2, name="other"), 3)
    store(replica, 3, roll=True)
    tick(run)
    run.writer.write()
    store(replica, 2, roll=True)
    with monkeypatch.context() as patch:
        break_sync(patch)
        tick(run)
    assert run.word(ROLE) == ROLE_OFFLINE
    assert run.word(RECOVERY_POINT) == SYNC_FAILED
    assert list(run.leader.replicas.by_row) == [2]
    assert not run.try_to_lead(generation=2), "the kernel would say yes to a second sync"
    run.next_worker()
    assert not run.try_to_lead(generation=3)
    run.writer.write()
    assert run.files()[0] == {KEY: 3, ("other", 0): 0}
    assert next_run().lead().log.log_end_offset == 5


def test_a_stop_hears_of_a_sync_that_failed_just_now(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """(R) The kernel tells an error once: the sync of the close itself would succeed."""
    replica = run.leader.replicas.by_row[1]
    store(replica, 3, roll=True)
    break_sync(monkeypatch)
    run.leader.tick()
    run.leader.close()
    assert read_clean_mark(RealDirectory(f"{run.path}/topic-0")) is None
    assert run.word(RECOVERY_POINT) == SYNC_FAILED


def test_flush_messages_fails_the_append_when_the_disk_refuses(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the error that takes a replica offline, and not one that only its client hears of."""
    log = run.leader.replicas.by_row[1].log
    log.config = LogConfig(flush_messages=1)
    break_sync(monkeypatch, in_background=False)
    with pytest.raises(SyncFailedError):
        log.append_as_leader(batch("x"), 1, NOW)


def test_what_has_not_changed_is_not_written(run: Run) -> None:
    run.writer.write()
    before = [(run.path / name).stat().st_ino for name in OFFSET_FILES[:2]]
    run.writer.write()
    assert [(run.path / name).stat().st_ino for name in OFFSET_FILES[:2]] == before
    store(run.leader.replicas.by_row[1], 1)
    run.writer.write()
    after = [(run.path / name).stat().st_ino for name in OFFSET_FILES[:2]]
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)


def test_what_a_killed_writer_left_is_removed(run: Run) -> None:
    (run.path / f"{HIGH_WATERMARKS}.4711.tmp").write_bytes(b"0\n1\n")
    (run.path / "meta.properties.tmp").write_bytes(b"not ours")
    run.writer.write()
    assert [path.name for path in run.path.glob("*.tmp")] == ["meta.properties.tmp"]


def refuse(_directory: RealDirectory, _name: str, _data: Buffer) -> None:
    """A disk that is full."""
    raise OSError(ENOSPC, "full")


def test_each_file_has_its_interval(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    store(run.leader.replicas.by_row[1], 1)
    checkpointer = Checkpointer(run.shared.brokers[0].config, run.writer, 100.0, said.append)
    assert checkpointer.wait_s(100.0) == 5.0
    checkpointer.tick(104.9)
    assert run.files() == [{}, {}, {}]
    checkpointer.tick(105.0)
    checkpointer._take_done(wait=True)
    assert run.files() == [{}, {KEY: 1}, {}]
    assert checkpointer.wait_s(106.0) == 4.0
    with monkeypatch.context() as patch:
        patch.setattr(RealDirectory, "replace", refuse)
        for now_s in (160.0, 220.0):
            store(run.leader.replicas.by_row[1], 1)
            checkpointer.tick(now_s)
            checkpointer._take_done(wait=True)
    assert said == ["cannot write checkpoints: [Errno 28] full"], "once"
    checkpointer.close()
    assert run.files() == [{KEY: 0}, {KEY: 3}, {}]
    assert run.word(LOG_START_OFFSET) == 0


def test_what_is_due_while_the_disk_is_slow_comes_later(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, written = threading.Event(), list[tuple[str, ...]]()

    def write(_: CheckpointWriter, names: tuple[str, ...] = OFFSET_FILES, **_more: bool) -> None:
        written.append(names)
        gate.wait()

    monkeypatch.setattr(CheckpointWriter, "write", write)
    checkpointer = Checkpointer(run.shared.brokers[0].config, run.writer, 0.0, str)
    checkpointer.tick(5.0)
    checkpointer.tick(60.0)
    assert checkpointer.wait_s(60.0) == 0.5
    gate.set()
    checkpointer._take_done(wait=True)
    checkpointer.tick(60.5)
    checkpointer.close()
    assert written == [(HIGH_WATERMARKS,), OFFSET_FILES, OFFSET_FILES]
