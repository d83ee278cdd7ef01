"""The data directories that a configuration names, opened before the first process is forked."""

import os

from tailrace.core.config import BrokerConfig
from tailrace.shm.log_dir_table import LogDirTable
from tailrace.workers.data_dir import DataDir, DataDirError, RunInfo, open_data_dirs
from tailrace.workers.log_dirs import LogDir, LogDirs
from tailrace.workers.say import say


class DataDirs:
    """Those of log.dirs, and metadata.log.dir when it is none of them. DataDirError when they cannot be used;
    one that cannot while others can is out of service for this run, and is named on stderr.
    """

    def __init__(self, config: BrokerConfig) -> None:
        self.paths = _distinct(config.log_dirs)
        metadata_dir = os.path.abspath(config.metadata_log_dir)
        same = [path for path in self.paths if os.path.realpath(path) == os.path.realpath(metadata_dir)]
        self.metadata_dir = same[0] if same else metadata_dir
        self.all_paths = self.paths if same else (*self.paths, metadata_dir)
        self.opened, self._unusable = open_data_dirs(
            self.all_paths, self.metadata_dir, node_id=config.node_id, cluster_id=config.cluster_id
        )
        if not any(opened.path in self.paths for opened in self.opened):
            raise self._unusable[0]
        for error in self._unusable:
            say(f"tailrace: starting without a log directory, its partitions are offline: {error}\n")

    def share(self, path: str) -> LogDirs:
        """What every process is given; makes the table at `path`."""
        opened: dict[str, DataDir] = {data_dir.path: data_dir for data_dir in self.opened}
        dirs: list[LogDir] = []
        for name in self.all_paths:
            found = opened.get(name)
            directory_id, lock_fd = ("", -1) if found is None else (found.directory_id, found.lock_fd)
            dirs.append(LogDir(name, directory_id, lock_fd, name in self.paths))
        table = LogDirTable.create(path, len(dirs))
        for error in self._unusable:
            index = self.all_paths.index(error.path)
            table.fail(index, error.number)
            table.set_told(index)
        return LogDirs(dirs, self.metadata_dir, table)

    def write_info(self, info: RunInfo) -> None:
        """Tell `stop` and `status` where we are, whichever directory they are given."""
        for data_dir in self.opened:
            data_dir.write_info(info)

    def clear_info(self) -> None:
        """Nobody serves any more."""
        for data_dir in self.opened:
            data_dir.clear_info()


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    seen: dict[str, str] = {}
    for name in names:
        path = os.path.abspath(name)
        other = seen.setdefault(os.path.realpath(path), path)
        if other is not path:
            raise DataDirError(f"log.dirs names one directory twice: {other} and {path}")
    return tuple(seen.values())
