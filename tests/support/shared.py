"""What a supervisor makes before its first fork, for tests that are all the processes themselves."""

import os
from pathlib import Path

from tailrace.core.config import load
from tailrace.shm.doorbell import make_eventfd
from tailrace.shm.links import HeadTable
from tailrace.shm.log_dir_table import LogDirTable, log_dirs_name
from tailrace.shm.names import RunDir
from tailrace.shm.slots import Layout, SlotTable
from tailrace.shm.state_table import StateTable
from tailrace.shm.waiters import WaiterTable
from tailrace.workers.data_dir import LOCK
from tailrace.workers.log_dirs import LogDir, LogDirs
from tailrace.workers.process import Broker, Shared

LAYOUT = Layout(brokers=1, workers_each=2)
SLOTS, ROWS = LAYOUT.slot_count, 64
WORKER_SLOT = LAYOUT.workers(0)[0]
DIRECTORY_ID = "Zmlyc3QtZGlyZWN0b3J5Lg"


def make_shared(data: Path, run_dir: RunDir, **settings: str) -> Shared:
    """Two worker slots; `settings` are keys of the configuration with _ for dots."""
    given = {"log.dirs": str(data), "workers.max": "2", "listeners": "PLAINTEXT://127.0.0.1:0"}
    given |= {name.replace("_", "."): value for name, value in settings.items()}
    log_dirs = LogDirs(
        [LogDir(str(data), DIRECTORY_ID, _lock(data))],
        str(data),
        LogDirTable.create(run_dir.file(log_dirs_name(0)), 1),
    )
    return Shared(
        brokers=[Broker(load(given)[0], log_dirs)],
        layout=LAYOUT,
        cluster_id="c",
        run_dir=run_dir.path,
        slots=SlotTable.create(run_dir.file("slots"), SLOTS),
        state_table=StateTable.create(run_dir.file("state"), ROWS),
        waiters=WaiterTable.create(run_dir.file("waiters"), ROWS),
        heads=HeadTable.create(run_dir.file("heads"), SLOTS),
        eventfds=tuple(make_eventfd() for _ in range(SLOTS)),
    )


def _lock(data: Path) -> int:
    """A descriptor of the lock file, which nobody needs to hold here."""
    data.mkdir(exist_ok=True)
    return os.open(data / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
