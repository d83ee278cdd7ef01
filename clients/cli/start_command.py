"""`tailrace start` as click shows and reads it: help, and the forms that `plain_arguments` leaves."""

import click

from tailrace.clients.cli.hooks import Hooks
from tailrace.clients.cli.start import StartArguments, start


@click.command("start")
@click.option("--data", metavar="DIR", help="Data directory.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="P",
    help="Port of the first listener; 0: any free one.",
)
@click.option("--brokers", type=click.IntRange(1), default=1, metavar="N", help="Brokers: only 1 so far.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a key, above file and environment."
)
@click.argument("file", required=False, metavar="[SERVER.PROPERTIES]")
@click.pass_obj
def command(
    hooks: Hooks,
    data: str | None,
    port: int | None,
    brokers: int,
    settings: tuple[str, ...],
    file: str | None,
) -> None:
    """Be a broker in the foreground until SIGTERM or Ctrl-C.

    Prints `ready bootstrap=HOST:PORT unix=PATH data=DIR` once it serves.

    \b
    Example: tailrace start --data ./data --set num.partitions=3
    """
    for setting in settings:
        if "=" not in setting:
            raise click.UsageError(f"--set {setting}: KEY=VALUE is expected")
    raise SystemExit(start(StartArguments(data, port, brokers, settings, file), hooks))
