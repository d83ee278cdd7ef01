"""The `tailrace` command: hands the command line its doors to the processes, nothing else."""

import sys
from typing import Any

from tailrace.clients.cli.hooks import Hooks
from tailrace.clients.cli.streams import open_streams
from tailrace.core.config import BrokerConfig


def run_broker(config: BrokerConfig) -> int:
    """Be a broker until a signal comes."""
    from tailrace.workers.run import run

    return run(config)


def read_pid(data_dir: str) -> int | None:
    """The supervisor of the broker that holds this data directory."""
    from tailrace.workers.status import read_pid as read

    return read(data_dir)


def read_status(data_dir: str) -> dict[str, Any] | None:
    """Every process of the broker that holds this data directory, as JSON has it."""
    from tailrace.workers.status import as_json, read_status

    status = read_status(data_dir)
    return None if status is None else as_json(status)


def ask_supervisor(data_dir: str, what: str, broker: int, timeout_s: float) -> list[dict[str, Any]] | None:
    """Have the supervisor do something about one of its brokers; all of them, as JSON has them."""
    from tailrace.workers.status import ask_supervisor as ask

    return ask(data_dir, what, broker, timeout_s)


HOOKS = Hooks(run_broker, read_pid, read_status, ask_supervisor)


def main() -> None:
    """Run the command line and exit with its code."""
    open_streams()
    arguments = sys.argv[1:]
    if arguments[:1] == ["start"]:
        from tailrace.clients.cli.start import plain_arguments, start

        plain = plain_arguments(arguments[1:])
        if plain is not None:
            sys.exit(start(plain, HOOKS))
    from tailrace.clients.cli.root import run

    run(arguments, HOOKS)


if __name__ == "__main__":
    main()
