"""Where a broker keeps its data when it is not told."""

import os
from collections.abc import Callable
from contextlib import suppress

from tailrace.clients.cli.failures import USAGE, fail
from tailrace.core.config_keys import ConfigError


def default_data_directory() -> str:
    """The user's data folder, as the platform has it; ConfigError for a user who has none."""
    from platformdirs import user_data_path

    with suppress(RuntimeError):  # as in a container that runs as a user nobody has heard of
        folder = user_data_path("tailrace")
        if folder.is_absolute():  # older platformdirs give ~ back
            return str(folder / "data")
    raise ConfigError("this user has no home directory: name a data directory with --data")


def chosen_data_directory(option: str | None, read_pid: Callable[[str], int | None]) -> str:
    """The directory named on the command line, else the one the environment names, else the default.

    Of several that the environment names, the first that `read_pid` finds a broker in: one may have failed.
    """
    if option == "":  # of a variable that is not set: not the default's broker
        fail("--data: the directory's name is empty", USAGE)
    if option:
        return os.path.abspath(option)
    named = os.environ.get("KAFKA_LOG_DIRS") or os.environ.get("KAFKA_LOG_DIR") or ""
    directories = [os.path.abspath(name.strip()) for name in named.split(",") if name.strip()]
    for directory in directories if len(directories) > 1 else ():
        with suppress(OSError):
            if read_pid(directory) is not None:
                return directory
    return directories[0] if directories else os.path.abspath(default_data_directory())
