"""What `status` reads from a run directory."""

import errno
import os
from array import array
from pathlib import Path

import pytest

from tailrace.core.ids import uuid_text
from tailrace.shm import state_table as rows
from tailrace.shm.log_dir_table import LogDirTable, log_dirs_name
from tailrace.shm.region import ShmError
from tailrace.shm.slots import GATEWAY, READY, SUPERVISOR, WORKER, SlotTable
from tailrace.shm.state_table import StateTable, topic_id_words
from tailrace.workers.data_dir import BrokerInfo, DataDir, RunInfo, open_data_dir
from tailrace.workers.status import as_json, read_pid, read_status

TOPIC_ID = bytes(range(240, 256))


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    """A locked data directory whose broker has told where its run directory is."""
    locked = open_data_dir(str(tmp_path / "data"), node_id=0, cluster_id=None)
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    locked.write_info(
        RunInfo(
            pid=os.getpid(),
            run_dir=str(run_dir),
            bootstrap="127.0.0.1:1",
            unix="/u",
            brokers=(BrokerInfo(node_id=0, bootstrap="127.0.0.1:1", unix="/u", log_dirs=("/d", "/e")),),
        )
    )
    return locked


def leader_row(slot: int, incarnation: int, partition: int) -> "array[int]":
    """The row of a partition that this process leads."""
    row = array("q", [0] * rows.WORDS)
    row[rows.TOPIC_ID_HI], row[rows.TOPIC_ID_LO] = topic_id_words(TOPIC_ID)
    row[rows.PARTITION] = partition
    row[rows.ROLE] = rows.ROLE_LEADER
    row[rows.LEADER_EPOCH] = 4
    row[rows.LOG_END_OFFSET] = row[rows.HIGH_WATERMARK] = 9
    row[rows.OWNER] = slot << 32 | incarnation
    return row


def test_every_live_process_is_shown_with_what_it_owns(
    data_dir: DataDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.workers.status.bytes_lacking", lambda path, *_: 7 * (path == "/d"))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    slots = SlotTable.create(str(tmp_path / "run" / "slots"), 6)
    table = StateTable.create(str(tmp_path / "run" / "state"), 8)
    LogDirTable.create(str(tmp_path / "run" / log_dirs_name(0)), 2).fail(1, errno.EROFS)
    slots.begin(0, SUPERVISOR, 0, 0)
    slots.begin(2, GATEWAY, 0, 0)
    dead = slots.begin(5, WORKER, 0, 1)
    slots.mark_dead(5, dead)
    alive = slots.begin(4, WORKER, 0, 0)
    slots.set_pid(4, 1234)
    slots.set_state(4, READY)
    table.write(0, leader_row(4, alive, 1))
    table.write(1, leader_row(4, alive, 0))
    table.write(2, leader_row(5, dead, 2))
    status = read_status(data_dir.path)
    assert status is not None
    assert [process.role for process in status.processes] == ["supervisor", "gateway", "worker"]
    worker = as_json(status)["processes"][2]
    assert (worker["pid"], worker["state"], worker["slot"]) == (1234, "ready", 4)
    assert [owned["partition"] for owned in worker["partitions"]] == [0, 1]
    assert worker["partitions"][0]["topic_id"] == uuid_text(TOPIC_ID)
    assert worker["partitions"][0]["high_watermark"] == 9
    assert as_json(status)["log_dirs"] == [
        {"path": "/d", "failure": "", "lacking_bytes": 7, "broker": 0},
        {"path": "/e", "failure": "Read-only file system", "lacking_bytes": 0, "broker": 0},
    ]
    assert read_pid(data_dir.path) == os.getpid()
    os.close(data_dir.lock_fd)
    slots.region.close()
    table.region.close()


def test_no_broker_is_no_status(data_dir: DataDir, tmp_path: Path) -> None:
    os.close(data_dir.lock_fd)  # as when its last process is gone
    assert read_status(data_dir.path) is None
    assert read_pid(data_dir.path) is None
    assert read_status(str(tmp_path / "nothing")) is None


def test_a_broker_whose_run_directory_is_gone_is_an_error_and_no_silence(data_dir: DataDir) -> None:
    with pytest.raises((ShmError, OSError), match="slots"):
        read_status(data_dir.path)
    os.close(data_dir.lock_fd)
