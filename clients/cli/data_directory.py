"""Where a broker keeps its data when it is not told."""

import os
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


def chosen_data_directory(option: str | None) -> str:
    """The directory named on the command line, else the one the environment names, else the default."""
    if option == "":  # of a variable that is not set: not the default's broker
        fail("--data: the directory's name is empty", USAGE)
    named = option or os.environ.get("KAFKA_LOG_DIRS") or os.environ.get("KAFKA_LOG_DIR")
    return os.path.abspath(named or default_data_directory())
