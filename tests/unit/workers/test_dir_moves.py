"""(R) Whenever the worker or all of the broker dies while a replica moves, there is one log with all that was
acknowledged, and the move goes on or is forgotten.
"""

from collections.abc import Iterator
from errno import EIO, ENOSPC
from pathlib import Path
from typing import Any

import pytest

from tailrace.core.errors import KAFKA_STORAGE_ERROR, KafkaError
from tailrace.core.log.checkpoints import LOG_STARTS, read_offsets
from tailrace.core.log.directory import DiskFullError, RealDirectory
from tailrace.core.log.log import Log
from tailrace.shm.state_table import ROLE, ROLE_NONE
from tailrace.workers import control, future_files, future_replicas
from tailrace.workers.control_moves import CompleteMove, MoveEnded
from tailrace.workers.future_files import read_mark
from tests.unit.log.logs import NOW
from tests.unit.workers.dir_move_run import ROW, TOPIC_ID, Crash, CrashError, Run

CALLS_MAX = 400


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[list[Run]]:
    """The last one is the one that lives."""
    made = [begun(tmp_path)]
    yield made
    made[-1].end()


@pytest.fixture
def leftovers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever removes them dies before that."""

    def none(*_: object) -> list[str]:
        return []

    monkeypatch.setattr(future_files, "leftovers", none)


def begun(path: Path) -> Run:
    """A log of several segments that does not start at 0."""
    run = Run(path)
    run.is_new = True
    run.serve()
    run.is_new = False
    for _ in range(6):
        run.append(*map(str, range(10)))
        run.replica.log.roll(NOW)
    run.replica.log.high_watermark = 60
    run.replica.log.delete_records_before(25, 1)
    run.replica.publish()
    return run


def test_a_move_there_and_back(runs: list[Run]) -> None:
    run = runs[0]
    before = run.shown()
    run.move("b")
    assert (run.shown(), run.committed) == (before, "b")
    run.append("one more")
    before = run.shown()
    run.move("a")
    assert run.shown() == before
    run.worker.replicas.futures.close()
    assert run.names() == ["a/t-0"]
    runs.append(run.next_run())
    assert runs[-1].shown() == before


def test_what_is_appended_while_it_is_copied_is_in_the_copy(runs: list[Run]) -> None:
    run = runs[0]
    run.copy("b")
    run.append("later")
    before = run.shown()
    assert run.complete()
    run.commit()
    run.serve()
    assert run.shown() == before


def test_nobody_leads_until_the_new_directory_is_known(runs: list[Run]) -> None:
    """(R) What was appended now would be in the old log alone."""
    run = runs[0]
    run.copy("b")
    assert run.complete()
    assert not run.replica.leads
    assert run.replica.row.values[ROLE] == ROLE_NONE
    run.tell(run.order())  # in the epoch that it has resigned
    assert not run.replica.leads


def test_the_mark_is_believed_once(runs: list[Run]) -> None:
    """(R) Where it says that the log starts would count after a truncation, too."""
    run = runs[0]
    run.move("b")
    assert read_mark(run.replica.path) is None
    offsets = read_offsets(RealDirectory(run.dirs["b"]), LOG_STARTS)
    assert offsets == {("t", 0): 25}


def test_a_disk_that_fails_before_the_old_log_is_removed(runs: list[Run]) -> None:
    """(R) Once it is mended there are two logs: the one with the mark counts, the other is set aside."""
    run = runs[0]
    run.copy("b")
    assert run.complete()
    run.commit()
    run.shared.brokers[0].log_dirs.fail(run.dirs["a"], EIO)
    run.serve()
    run.append("only in b")
    before = run.shown()
    for _ in range(2):
        runs.append(runs[-1].next_run())
        assert (runs[-1].shown(), runs[-1].committed) == (before, "b")
    assert runs[-1].names() == ["a/t-0-stray", "b/t-0"]


def test_one_that_is_wanted_where_it_is_moves_no_more(runs: list[Run]) -> None:
    run = runs[0]
    run.copy("b")
    run.future = ""
    run.serve(anew=False)
    run.worker.replicas.futures.close()
    assert run.names() == ["a/t-0"]
    assert not run.complete(), "an answer that crossed the order"
    run.serve()
    run.append("on")


def test_half_a_copy_never_counts(runs: list[Run]) -> None:
    """(R) Even where it has all that there is now."""
    run = runs[0]
    run.copy("b")
    log_dirs, there = run.shared.brokers[0].log_dirs, run.dirs["b"]
    assert future_files.take_place(log_dirs, there, "t-0", TOPIC_ID) is None
    assert run.names() == ["a/t-0", "b/t-0-future"]


def with_an_old_copy(run: Run) -> None:
    """Complete, and not committed; there are records that it lacks."""
    run.copy("b")
    assert run.complete()
    run.future = ""
    run.next_worker()
    run.append("not in the copy")


@pytest.mark.usefixtures("leftovers_stay")
def test_a_complete_copy_that_was_not_committed_does_not_count(runs: list[Run]) -> None:
    """(R) Its worker dies, or the controller changes its mind: the old log is served, and the copy is old."""
    run = runs[0]
    with_an_old_copy(run)
    before = run.shown()
    assert run.names() == ["a/t-0", "b/t-0-future"]
    for _ in range(2):
        runs.append(runs[-1].next_run())
        assert runs[-1].shown() == before
    run = runs[-1]
    run.future = ""
    run.move("b")
    assert run.shown() == before


@pytest.mark.usefixtures("leftovers_stay")
def test_an_older_complete_copy_is_not_taken_for_the_next(runs: list[Run]) -> None:
    """(R) It is removed before another is begun."""
    run = runs[0]
    with_an_old_copy(run)
    run.copy("b")
    assert run.names() == ["a/t-0", "b/t-0-future"]
    assert run.complete()
    before = run.shown()
    run.commit()
    run.next_worker()
    assert run.shown() == before


@pytest.mark.parametrize("how", ["worker", "broker"])
def test_a_death_at_each_call_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    number = 0
    while True:
        number += 1
        assert number < CALLS_MAX
        with monkeypatch.context() as patch:
            crash = Crash(patch, number)
            run = begun(tmp_path / str(number))
            before = run.shown()
            try:
                crash.is_armed = True
                run.move("b")
            except CrashError:
                pass
            else:
                crash.is_armed = False
                run.end()
                break
            check_after(run, how, before)
    assert number > 20, "there were calls"


def check_after(run: Run, how: str, before: tuple[int, int, bytes]) -> None:
    """The log is there, is appended to, and moves after all."""
    if how == "worker":
        run.next_worker()
    else:
        run = run.next_run()
    assert run.shown() == before
    run.append("after that")
    after = run.shown()
    run = run.next_run()
    assert run.shown() == after
    target = "a" if run.committed == "b" else "b"
    run.future = ""
    run.serve(anew=False)
    run.move(target)
    assert run.shown() == after
    run.worker.replicas.futures.close()
    assert run.names() == [f"{target}/t-0"]
    run.end()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is tried again at once."""
    for name in ("FULL_PAUSE_MS", "SAY_AGAIN_MS"):
        monkeypatch.setattr(future_replicas, name, 0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("call", ["open", "append_as_follower"])
def test_a_full_disk_is_waited_for(runs: list[Run], monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    run = runs[0]
    before, attempts = run.shown(), [0]
    real = getattr(Log, call)

    def full(*arguments: Any, **options: Any) -> Any:
        attempts[0] += 1
        if attempts[0] % 5:
            raise DiskFullError(KAFKA_STORAGE_ERROR, "full")
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Log, call, full)
        run.copy("b")
    assert attempts[0] >= 5
    assert not run.take(MoveEnded)
    assert run.complete()
    run.commit()
    run.serve()
    assert run.shown() == before
    run.worker.replicas.futures.close()
    assert run.names() == ["b/t-0"]


@pytest.mark.usefixtures("impatient")
def test_a_disk_that_is_full_in_the_end(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """The old log is served again, and the move is not forgotten."""
    run = runs[0]
    run.copy("b")
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(ENOSPC, "full")

        patch.setattr(future_files, "write_mark", full)
        run.tell(CompleteMove(row=ROW, row_generation=run.generation, leader_epoch=run.epoch))
    (ended,) = run.take(MoveEnded)
    assert (ended.is_complete, ended.log_dir) == (False, "")
    run.epoch += 1
    run.tell(run.order())
    run.append("meanwhile")
    before = run.shown()
    run.move("b")
    assert run.shown() == before
    run.worker.replicas.futures.close()
    assert run.names() == ["b/t-0"]


def test_a_move_that_fails_is_given_up_in_words(
    runs: list[Run], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = runs[0]

    def refused(*_: object, **__: object) -> None:
        raise KafkaError(KAFKA_STORAGE_ERROR, "not sound")

    with monkeypatch.context() as patch:
        patch.setattr(Log, "append_as_follower", refused)
        run.future = "b"
        run.serve(anew=False)
        run.worker.turn()
    (ended,) = run.take(MoveEnded)
    assert (ended.is_complete, ended.log_dir) == (False, run.dirs["b"])
    assert f"t-0 does not move to {run.dirs['b']}: " in capfd.readouterr().err


@pytest.mark.parametrize("when", ["copying", "complete", "committed"])
@pytest.mark.parametrize("who", ["worker", "successor"])
def test_one_that_is_deleted_while_it_moves_leaves_nothing(runs: list[Run], when: str, who: str) -> None:
    """(R) Also when nobody has obeyed the order that names the other directory."""
    run = runs[0]
    run.copy("b")
    if when != "copying":
        assert run.complete()
    if when == "committed":
        run.commit()
    if who == "successor":
        run.begin_worker()
    if who == "successor" or when == "committed":
        run.generation += 1
    run.delete()
    assert not run.worker.replicas.by_row
    (stopped,) = run.take(control.ReplicaStopped)
    assert stopped.row_generation == run.generation
    run.worker.replicas.futures.close()
    assert run.names() == []
