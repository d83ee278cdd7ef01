"""`tailrace broker`: the virtual brokers of a host, one by one, while the others go on."""

from typing import Any

import click

from tailrace.clients.cli.data_directory import chosen_data_directory
from tailrace.clients.cli.failures import NOT_FOUND, fail, say
from tailrace.clients.cli.hooks import Hooks
from tailrace.clients.cli.options import Seconds, output_option
from tailrace.clients.cli.output import print_json, print_table

data_option = click.option("--data", metavar="DIR", help="Data directory of the brokers.")
timeout_option = click.option(
    "--timeout", type=Seconds(min=0.001), default=90.0, show_default=True, help="Seconds to wait."
)
id_argument = click.argument("broker", type=click.IntRange(0), metavar="ID")


@click.group("broker")
def command() -> None:
    """List, stop, start and kill single brokers of a running host.

    \b
    Example: tailrace broker stop 1
    """


@command.command("list")
@data_option
@output_option
@click.pass_obj
def list_command(hooks: Hooks, data: str | None, output: str) -> None:
    """Show every broker: id, state, where it listens, its processes.

    \b
    Example: tailrace broker list -o json
    """
    brokers = ask_supervisor(hooks, data, "list", -1, 10.0)
    if output == "json":
        print_json(brokers)
        return
    rows = [
        (
            broker["node_id"],
            broker["state"],
            broker["bootstrap"] or "-",
            ",".join(map(str, broker["pids"])) or "-",
        )
        for broker in brokers
    ]
    print_table(("BROKER", "STATE", "BOOTSTRAP", "PIDS"), rows)


@command.command("stop")
@id_argument
@data_option
@timeout_option
@click.pass_obj
def stop_command(hooks: Hooks, broker: int, data: str | None, timeout: float) -> None:
    """Stop one broker in order, and wait until it has.

    What it leads is led by other brokers that are in sync, then clients are no longer sent to it. Where no
    other is, there is no leader until it is started again.

    \b
    Example: tailrace broker stop 1
    """
    _change(hooks, data, "stop", broker, timeout)


@command.command("kill", short_help="Kill all processes of one broker, as a failure would.")
@id_argument
@data_option
@timeout_option
@click.pass_obj
def kill_command(hooks: Hooks, broker: int, data: str | None, timeout: float) -> None:
    """Kill all processes of one broker at once, as a failure would, and leave it stopped.

    \b
    Example: tailrace broker kill 1
    """
    _change(hooks, data, "kill", broker, timeout)


@command.command("start", short_help="Start one broker that was stopped or killed.")
@id_argument
@data_option
@timeout_option
@click.pass_obj
def start_command(hooks: Hooks, broker: int, data: str | None, timeout: float) -> None:
    """Start one broker that was stopped or killed, and wait until it serves.

    \b
    Example: tailrace broker start 1
    """
    _change(hooks, data, "start", broker, timeout)


def _change(hooks: Hooks, data: str | None, what: str, broker: int, timeout_s: float) -> None:
    """Stop, start or kill one; whoever leaves none running is told how to go on."""
    ids = [each["node_id"] for each in ask_supervisor(hooks, data, "list", -1, timeout_s)]
    if broker not in ids:
        there = f"there are {', '.join(map(str, ids))}" if len(ids) > 1 else f"the only one is {ids[0]}"
        fail(f"there is no broker {broker}: {there}", NOT_FOUND)
    brokers = ask_supervisor(hooks, data, what, broker, timeout_s)
    if all(each["state"] == "stopped" for each in brokers):
        which = "ID` of more than half of them" if len(ids) > 1 else f"{broker}`"  # or no controller leads
        say(f"no broker runs now: `tailrace broker start {which} goes on, `tailrace stop` ends all of it")


def ask_supervisor(
    hooks: Hooks, data: str | None, what: str, broker: int, timeout_s: float
) -> list[dict[str, Any]]:
    """Have the supervisor of a host do something; all of its brokers afterwards. Ends the command when it
    cannot be done.
    """
    directory = chosen_data_directory(data, hooks.read_pid)
    brokers = hooks.ask_supervisor(directory, what, broker, timeout_s)
    if brokers is None:
        fail(f"no broker runs on {directory}", NOT_FOUND)
    return brokers
