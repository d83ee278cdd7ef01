"""What a supervisor makes before its first fork, for tests that are all the processes themselves."""

import os
from pathlib import Path

from tailrace.core.config import BrokerConfig, load
from tailrace.core.config_brokers import split
from tailrace.core.ids import uuid_text
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
ROWS = 64
WORKER_SLOT = LAYOUT.workers(0)[0]
DIRECTORY_ID = "Zmlyc3QtZGlyZWN0b3J5Lg"


def make_shared(data: Path, run_dir: RunDir, **settings: str) -> Shared:
    """`workers.max` is of each broker here; `settings` are keys of the configuration with _ for dots."""
    given = {"log.dirs": str(data), "workers.max": "2", "listeners": "PLAINTEXT://127.0.0.1:0"}
    given |= {name.replace("_", "."): value for name, value in settings.items()}
    configs = split(load(given)[0])
    layout = Layout(len(configs), int(given["workers.max"]))
    data.mkdir(exist_ok=True)
    return Shared(
        brokers=[Broker(config, _log_dirs(run_dir, index, config)) for index, config in enumerate(configs)],
        layout=layout,
        cluster_id="c",
        run_dir=run_dir.path,
        slots=SlotTable.create(run_dir.file("slots"), layout.slot_count),
        state_table=StateTable.create(run_dir.file("state"), ROWS),
        waiters=WaiterTable.create(run_dir.file("waiters"), ROWS),
        heads=HeadTable.create(run_dir.file("heads"), layout.slot_count),
        eventfds=tuple(make_eventfd() for _ in range(layout.slot_count)),
    )


def close_shared(shared: Shared) -> None:
    """Give back the descriptors of what `make_shared` made; the run directory is the caller's."""
    locks = [each.lock_fd for broker in shared.brokers for each in broker.log_dirs.dirs]
    for descriptor in (*shared.eventfds, *locks):
        os.close(descriptor)


def _log_dirs(run_dir: RunDir, broker: int, config: BrokerConfig) -> LogDirs:
    made: list[LogDir] = []
    for number, path in enumerate(config.log_dirs):
        directory_id = uuid_text(f"directory{number}-of-{broker:02}".encode())
        made.append(LogDir(path, directory_id if broker or number else DIRECTORY_ID, _lock(Path(path))))
    table = LogDirTable.create(run_dir.file(log_dirs_name(broker)), len(made))
    return LogDirs(made, made[0].path, table)


def _lock(data: Path) -> int:
    """A descriptor of the lock file, which nobody needs to hold here."""
    data.mkdir(exist_ok=True, parents=True)
    return os.open(data / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
