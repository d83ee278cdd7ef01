"""`tailrace stop`: end the broker that holds a data directory, and wait until it is gone."""

import os
import select
import signal

import click

from tailrace.clients.cli.data_directory import chosen_data_directory
from tailrace.clients.cli.failures import NOT_FOUND, fail
from tailrace.clients.cli.hooks import Hooks
from tailrace.clients.cli.options import Seconds


@click.command("stop")
@click.option("--data", metavar="DIR", help="Data directory of the broker.")
@click.option("--timeout", type=Seconds(min=0), default=90.0, show_default=True, help="Seconds to wait.")
@click.pass_obj
def command(hooks: Hooks, data: str | None, timeout: float) -> None:
    """Stop the broker of a data directory in order.

    \b
    Example: tailrace stop --data ./data
    """
    directory = chosen_data_directory(data, hooks.read_pid)
    pid = hooks.read_pid(directory)
    if pid is None:
        fail(f"no broker runs on {directory}", NOT_FOUND)
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if hooks.read_pid(directory) != pid:  # it ended, and its pid may be another's by now
            return
        signal.pidfd_send_signal(process, signal.SIGTERM)
        waiting = select.poll()
        waiting.register(process, select.POLLIN)
        if not waiting.poll(timeout * 1000):
            fail(f"the broker (process {pid}) did not stop within {timeout:g} s; it is still stopping")
    except ProcessLookupError:
        return
    except PermissionError:
        fail(f"process {pid} belongs to another user")
    finally:
        os.close(process)
