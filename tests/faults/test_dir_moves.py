"""Replicas that move between log directories while they are written to: nothing is lost, whoever dies."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perf import wire
from tailrace.core.errors import (
    INVALID_TOPIC_EXCEPTION,
    KAFKA_STORAGE_ERROR,
    LOG_DIR_NOT_FOUND,
    NONE,
    NOT_LEADER_OR_FOLLOWER,
    UNKNOWN_TOPIC_OR_PARTITION,
)
from tests.support.dir_moves import Mover
from tests.support.log_dirs import Renamed, brokers_of, load
from tests.support.waiting import wait_until

Make = Callable[..., Mover]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """See brokers_of."""
    with brokers_of(Mover, tmp_path / "broker") as made:
        yield made


SLOW, FAST = 200_000, 1_000_000_000


def started(make: Make) -> Mover:
    """A broker with a topic."""
    broker = make("a", "b")
    broker.start()
    broker.create("t")
    return broker


def filled(make: Make) -> Mover:
    """Of some megabytes."""
    broker = started(make)
    with load(broker, "t") as (writer,):
        wait_until(lambda: writer.count > 500, "some records")
    return broker


def test_a_log_moves_there_and_back_under_load(make: Make) -> None:
    broker = started(make)
    with load(broker, "t") as (writer,):
        wait_until(lambda: writer.count > 100, "some records")
        for _ in range(2):
            target = broker.other_dir("t")
            count = writer.count
            assert broker.move("t", target) == NONE
            broker.wait_moved("t", target)
            wait_until(lambda count=count: writer.count > count + 100, "more records")  # type: ignore[misc]
    assert broker.end_of("t") == writer.end
    broker.stop()
    broker.start()
    assert broker.end_of("t") == writer.end


@pytest.mark.parametrize("role", ["worker", "controller", "gateway"])
def test_a_move_outlives_a_process(make: Make, role: str) -> None:
    broker = filled(make)
    target = broker.begin_move("t", SLOW)
    end = broker.end_of("t")
    for pid in [broker.worker_of("t")] if role == "worker" else broker.pids(role):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: pid not in broker.pids(role), "its death")  # type: ignore[misc]
    wait_until(lambda: broker.pids(role), "its successor")
    with load(broker, "t") as (writer,):
        broker.throttle(FAST)
        broker.wait_moved("t", target)
    assert broker.end_of("t") >= max(end, writer.end)


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_move_goes_on_in_the_next_run(make: Make, how: str) -> None:
    """As in Kafka."""
    broker = filled(make)
    target = broker.begin_move("t", SLOW)
    end = broker.end_of("t")
    if how == "killed":
        broker.kill()
    broker.stop()
    broker.start()
    assert broker.end_of("t") == end
    wait_until(lambda: target in broker.places("t"), "the copy")
    broker.throttle(FAST)
    broker.wait_moved("t", target)
    assert broker.end_of("t") == end


def test_a_move_back_to_where_it_is_ends_it(make: Make) -> None:
    broker = filled(make)
    source, end = broker.dir_of("t"), broker.end_of("t")
    broker.begin_move("t", SLOW)
    assert broker.move("t", source) == NONE
    broker.wait_moved("t", source)
    assert broker.end_of("t") == end


def test_what_is_answered_is_shown(make: Make) -> None:
    """As in Kafka: who looks right after the answer (`--verify`, which takes the throttle away) takes a move
    that is not shown for one that was called off.
    """
    broker = filled(make)
    broker.throttle(1)
    source, target = broker.dir_of("t"), broker.other_dir("t")
    for _ in range(10):
        assert broker.move("t", target) == NONE
        places = broker.places("t")
        assert {path: places[path].is_future_key for path in places} == {source: False, target: True}
        assert places[target].offset_lag > 0
        assert broker.move("t", source) == NONE
        assert list(broker.places("t")) == [source]


def test_a_topic_that_is_deleted_meanwhile_leaves_nothing(make: Make) -> None:
    broker = filled(make)
    broker.begin_move("t", SLOW)
    with wire.Connection(wire.address(broker.bootstrap)) as connection:
        wire.delete_topic(connection, "t")
    wait_until(lambda: broker.names("t") == [], "all to be gone")


def test_a_directory_that_fails_meanwhile(make: Make) -> None:
    """The old log is served as before, and a move there is refused."""
    broker = make("a", "b")
    broker.start()
    broker.create("t", "u")
    sick = "t" if broker.dir_of("t") == broker.dirs[0] else "u"
    with load(broker, sick) as (writer,):
        wait_until(lambda: writer.count > 500, "some records")
        target = broker.begin_move(sick, SLOW)
        Renamed().strike(broker, sick, target)
        wait_until(lambda: target not in broker.places(sick), "the move to be given up")
        count = writer.count
        wait_until(lambda: writer.count > count + 100, "more records")
    assert not writer.errors
    wait_until(lambda: broker.move(sick, target) == KAFKA_STORAGE_ERROR, "the refusal")
    broker.stop()
    Renamed().mend(target)
    broker.start()
    assert broker.end_of(sick) == writer.end


def test_what_cannot_be_is_refused_as_by_kafka(make: Make, tmp_path: Path) -> None:
    broker = make("a", "b")
    broker.start()
    broker.create("t", "n" * 230)
    here, there = broker.dir_of("t"), broker.other_dir("t")
    assert broker.move("t", tmp_path / "elsewhere") == LOG_DIR_NOT_FOUND
    assert broker.move("t", Path("relative")) == LOG_DIR_NOT_FOUND
    assert broker.move("nobody", there) == UNKNOWN_TOPIC_OR_PARTITION
    assert broker.move("t", there, partition=1) == UNKNOWN_TOPIC_OR_PARTITION
    assert broker.move("n" * 230, there) == INVALID_TOPIC_EXCEPTION
    assert broker.move("t", here) == NONE
    assert broker.names("t") == [f"{here.name}/t-0"]


def test_workers_die_while_it_moves_to_and_fro(make: Make) -> None:
    """(R) Whenever that is: nothing that was acknowledged is lost."""
    broker = filled(make)
    with load(broker, "t") as (writer,):
        for number in range(6):
            target = broker.other_dir("t")
            assert broker.move("t", target) == NONE
            count = writer.count
            wait_until(lambda count=count, number=number: writer.count > count + 3 * number, "some")  # type: ignore[misc]
            for pid in broker.pids("worker"):
                os.kill(pid, signal.SIGKILL)
            broker.wait_moved("t", target)
    assert broker.end_of("t") >= writer.end


def test_leaders_and_followers_move_while_they_replicate(make: Make) -> None:
    """Everybody has everything, and is in sync."""
    broker = make("a", "b", brokers="3", workers_max="6")
    broker.start()
    with wire.Connection(wire.address(broker.bootstrap)) as connection:
        wire.create_topic(connection, "t", replicas=(0, 1, 2))
    roots = [Path(path) for path in broker.broker_dirs()]
    with load(broker, "t") as (writer,):
        for number in (0, 1, 2, 2, 1, 0):
            wait_until(lambda: writer.count > 100, "some records")
            own = [path for path in roots if path.name == f"broker-{number}"]
            (target,) = (path for path in own if not (path / "t-0").exists())
            assert broker.move("t", target, broker=number) == NONE
            wait_until(lambda target=target: (target / "t-0").exists(), "the log to be there")  # type: ignore[misc]
            wait_until(lambda: broker.partition("t").isr_nodes, "a leader")
    wait_until(lambda: len(broker.partition("t").isr_nodes) == 3, "all in sync")
    assert writer.errors <= {NOT_LEADER_OR_FOLLOWER}
    assert sum((path / "t-0").exists() for path in roots) == 3


def kept(broker: Mover) -> list[str]:
    """What there is of t; what a worker was removing when it died is removed at the next start."""
    return [name for name in broker.names("t") if not name.endswith("-delete")]


def test_a_topic_that_is_made_anew_while_its_log_moves(make: Make) -> None:
    """What is left of the old one is nobody's, also when workers die meanwhile."""
    broker = filled(make)
    broker.throttle(SLOW)
    for number in range(4):
        assert broker.move("t", broker.other_dir("t")) == NONE
        with wire.Connection(wire.address(broker.bootstrap)) as connection:
            wire.delete_topic(connection, "t")
        if number % 2:
            for pid in broker.pids("worker"):
                os.kill(pid, signal.SIGKILL)
        broker.create("t")
        with load(broker, "t") as (writer,):
            wait_until(lambda writer=writer: writer.end, "records")  # type: ignore[misc]
        wait_until(lambda: len(kept(broker)) == 1, "nothing else to be there")
        assert list(broker.places("t")) == [broker.dir_of("t")]
        assert broker.end_of("t") == writer.end


def test_the_directory_it_comes_from_fails_meanwhile(make: Make) -> None:
    """It is out of service, as without a move; mended it is served again, and moves on."""
    broker = make("a", "b", "c")
    broker.start()
    broker.create("t", "u", "v")
    sick = next(topic for topic in ("t", "u", "v") if broker.dir_of(topic) != broker.dirs[0])
    source = broker.dir_of(sick)
    with load(broker, sick) as (writer,):
        wait_until(lambda: writer.count > 500, "some records")
        target = broker.begin_move(sick, SLOW)
        Renamed().strike(broker, sick, source)
        wait_until(lambda: KAFKA_STORAGE_ERROR in writer.errors, "its end")
    wait_until(lambda: broker.move(sick, target) == KAFKA_STORAGE_ERROR, "the refusal")
    broker.stop()
    Renamed().mend(source)
    broker.start()
    assert broker.end_of(sick) == writer.end
    broker.throttle(FAST)
    broker.wait_moved(sick, target)
    assert broker.end_of(sick) == writer.end


def test_the_broker_is_killed_while_logs_move_to_and_fro(make: Make) -> None:
    """(R) Whenever that is: nothing that was acknowledged is lost, and nothing is left over."""
    broker = filled(make)
    end = broker.end_of("t")
    for number in range(6):
        target = broker.other_dir("t")
        with load(broker, "t") as (writer,):
            wait_until(lambda writer=writer: writer.end, "a record")  # type: ignore[misc]
            assert broker.move("t", target) == NONE
            count = writer.count
            wait_until(
                lambda count=count, number=number, writer=writer: writer.count > count + 8 * number,  # type: ignore[misc]
                "some",
            )
            writer.stop()
            broker.kill()
        broker.stop()
        broker.start()
        assert broker.end_of("t") >= writer.end >= end
        end = broker.end_of("t")
        wait_until(lambda: len(broker.names("t")) == 1, "one log")
        broker.wait_moved("t", broker.dir_of("t"))
