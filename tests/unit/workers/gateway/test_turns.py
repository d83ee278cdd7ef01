"""A turn of the loop takes a few requests of each connection: a hundred of one do not hold others up."""

from pathlib import Path

from tailrace.workers.gateway.connection import FRAMES_A_TURN
from tests.unit.workers.gateway.in_process import correlation_ids, in_process, produce_frame


def test_a_flood_is_taken_in_turns_in_order_and_whole(tmp_path: Path) -> None:
    with in_process(tmp_path / "data") as run:
        run.lead()
        flood, connection = run.dial()
        good, other = run.dial()
        flood.sendall(b"".join(produce_frame(number) for number in range(100)))
        good.sendall(produce_frame(7))
        while not connection.requests:
            run.gateway._turn_once(0.0)  # pyright: ignore[reportPrivateUsage]
        assert len(connection.requests) == FRAMES_A_TURN
        assert len(other.requests) == 1
        assert connection.has_more
        assert correlation_ids(run.answers(flood, 100)) == list(range(100))
        assert correlation_ids(run.answers(good, 1)) == [7]


def test_a_connection_that_goes_between_its_turns_leaves_nothing(tmp_path: Path) -> None:
    with in_process(tmp_path / "data") as run:
        run.lead()
        flood, connection = run.dial()
        flood.sendall(b"".join(produce_frame(number) for number in range(100)))
        while not connection.has_more:
            run.gateway._turn_once(0.0)  # pyright: ignore[reportPrivateUsage]
        connection.close()
        assert not run.gateway.unfinished
        run.turn(5)
        assert run.blocks_taken() == 0
