"""The data directories that a configuration names, opened before the first process is forked."""

import os
from collections.abc import Sequence

from tailrace.core.config import BrokerConfig
from tailrace.core.config_brokers import own_directory, split
from tailrace.shm.log_dir_table import LogDirTable
from tailrace.workers.data_dir import (
    DataDir,
    DataDirError,
    Root,
    RunInfo,
    open_data_dirs,
    open_root,
    was_used,
)
from tailrace.workers.log_dirs import LogDir, LogDirs
from tailrace.workers.say import say


class DataDirs:
    """Those of log.dirs, and metadata.log.dir when it is none of them. DataDirError when they cannot be used;
    one that cannot while others can is out of service for this run, and is named on stderr.
    """

    def __init__(self, config: BrokerConfig, cluster_id: str | None = None) -> None:
        """`cluster_id`: of the brokers that it belongs together with."""
        self.config = config
        self.paths = _distinct(config.log_dirs)
        metadata_dir = os.path.abspath(config.metadata_log_dir)
        same = [path for path in self.paths if os.path.realpath(path) == os.path.realpath(metadata_dir)]
        self.metadata_dir = same[0] if same else metadata_dir
        self.all_paths = self.paths if same else (*self.paths, metadata_dir)
        self.opened, self._unusable = open_data_dirs(
            self.all_paths,
            self.metadata_dir,
            node_id=config.node_id,
            cluster_id=cluster_id or config.cluster_id,
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


class HostDirs:
    """Those of every broker of this host, and what holds them together. DataDirError."""

    def __init__(self, config: BrokerConfig) -> None:
        self.roots: list[Root] = []
        cluster_id = config.cluster_id
        configs = split(config)
        if config.brokers > 1:
            _check_apart(configs)
            _check_quorum_is_there(configs)
            for path in _roots(config, configs):
                root = open_root(path, config.brokers, cluster_id)
                self.roots.append(root)
                cluster_id = root.cluster_id
        self.brokers: list[DataDirs] = []
        for each in configs:
            dirs = DataDirs(each, cluster_id)
            self.brokers.append(dirs)
            cluster_id = dirs.opened[0].cluster_id
        assert cluster_id is not None
        self.cluster_id = cluster_id

    def shown(self) -> list[str]:
        """What a user calls them: the directories that were given."""
        if self.roots:
            return [root.path for root in self.roots]
        return [path for dirs in self.brokers for path in dirs.paths]

    def write_info(self, info: RunInfo) -> None:
        """Tell `stop` and `status` where we are, whichever directory they are given."""
        for held in self._held():
            held.write_info(info)

    def clear_info(self) -> None:
        """Nobody serves any more."""
        for held in self._held():
            held.clear_info()

    def _held(self) -> list[Root]:
        return [*self.roots, *(opened for dirs in self.brokers for opened in dirs.opened)]


def _roots(config: BrokerConfig, configs: Sequence[BrokerConfig]) -> list[str]:
    """The given directories in which some broker has one."""
    named = {path for each in configs for path in (*each.log_dirs, each.metadata_log_dir)}
    given = dict.fromkeys((*config.log_dirs, config.metadata_log_dir))
    ids = [each.node_id for each in configs]
    return [
        os.path.abspath(path)
        for path in given
        if any(own_directory(path, node_id) in named for node_id in ids)
    ]


def _check_apart(configs: Sequence[BrokerConfig]) -> None:
    owners: dict[str, int] = {}
    for config in configs:
        for path in {*config.log_dirs, config.metadata_log_dir}:
            other = owners.setdefault(os.path.realpath(path), config.node_id)
            if other != config.node_id:
                raise DataDirError(f"brokers {other} and {config.node_id} cannot both have {path}")


def _check_quorum_is_there(configs: Sequence[BrokerConfig]) -> None:
    """(R) Of the copies of the metadata log a majority has to be there: without it no controller would ever
    lead, and one that did would take all that the brokers hold for strays. One that is new is filled again.
    """
    paths = [config.metadata_log_dir for config in configs]
    new = [path for path in paths if not was_used(path)]
    used = [path for path in paths if path not in new]
    if used and len(used) < len(paths) // 2 + 1:
        raise DataDirError(
            f"{new[0]} is new and {used[0]} is not: mount the directory that held the metadata log, "
            f"which {len(paths) // 2 + 1} of {len(paths)} brokers must have"
        )


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    seen: dict[str, str] = {}
    for name in names:
        path = os.path.abspath(name)
        other = seen.setdefault(os.path.realpath(path), path)
        if other is not path:
            raise DataDirError(f"log.dirs names one directory twice: {other} and {path}")
    return tuple(seen.values())
