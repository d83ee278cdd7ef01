"""Where a worker that opens a log begins, and where it must not."""

from pathlib import Path

import pytest

from tailrace.core.errors import KAFKA_STORAGE_ERROR, KafkaError
from tailrace.core.log.directory import RealDirectory
from tailrace.core.log.log import Log
from tailrace.workers.starting_points import StartingPoint, StartingPoints
from tests.unit.log.logs import NOW, SMALL, fill

OLD, NEW = bytes(15) + b"\x01", bytes(15) + b"\x02"


def test_records_of_a_deleted_topic_do_not_come_back_in_its_namesake(tmp_path: Path) -> None:
    """(R) Its files could not be removed, or not yet; the log opens once they are."""
    directory = RealDirectory(str(tmp_path / "t-0"))
    log = Log.open(directory, "t-0", SMALL, now_ms=NOW, topic_id=OLD)
    fill(log, 3)
    log.close()
    points = StartingPoints(str(tmp_path))
    assert points.find(directory, "t", 0, OLD, None) == StartingPoint()
    with pytest.raises(KafkaError) as caught:
        points.find(directory, "t", 0, NEW, None)
    assert caught.value.code == KAFKA_STORAGE_ERROR
    directory.destroy()
    assert points.find(RealDirectory(directory.path), "t", 0, NEW, None) == StartingPoint()
