"""Replicas that move between log directories while they are written to: nothing is lost, whoever dies."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailrace.core.errors import NONE
from tests.support.dir_moves import Mover
from tests.support.log_dirs import load
from tests.support.waiting import wait_until

Make = Callable[..., Mover]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes brokers that are stopped at the end."""
    made: list[Mover] = []

    def broker(*names: str, **settings: str) -> Mover:
        given = {name.replace("_", "."): value for name, value in settings.items()}
        made.append(Mover(tmp_path / "broker", names, {"log.segment.bytes": str(1 << 20)} | given))
        return made[-1]

    yield broker
    for started in made:
        started.stop()


def test_a_log_moves_there_and_back_under_load(make: Make) -> None:
    broker = make("a", "b")
    broker.start()
    broker.create("t")
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
