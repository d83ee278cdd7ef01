"""`tailrace start` as click shows and reads it: help, and the forms that `plain_arguments` leaves."""

from collections.abc import Callable
from typing import Any

import click

from tailrace.clients.cli.hooks import Hooks
from tailrace.clients.cli.start import StartArguments, is_setting, start
from tailrace.core.config_keys import BROKERS_MAX


def _check_settings(
    context: click.Context, parameter: click.Parameter, settings: tuple[str, ...]
) -> tuple[str, ...]:
    del context, parameter
    for setting in settings:
        if not is_setting(setting):
            raise click.UsageError(f"--set {setting}: KEY=VALUE is expected")
    return settings


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where a configuration comes from."""
    for decorate in (
        click.argument("file", required=False, metavar="[SERVER.PROPERTIES]"),
        click.option("--strict", is_flag=True, help="An unknown key is an error, not a warning."),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            callback=_check_settings,
            help="Set a key, above file and environment.",
        ),
        click.option(
            "--brokers",
            type=click.IntRange(1, BROKERS_MAX),
            metavar="N",
            help="Virtual brokers; default: brokers, else 1.",
        ),
        click.option(
            "--port",
            type=click.IntRange(0, 65535),
            metavar="P",
            help="Port of the first listener, of broker b P+b; 0: any free one.",
        ),
        click.option(
            "--data",
            metavar="DIR",
            help="Data directory; default: log.dirs, $KAFKA_LOG_DIRS, else the user's data folder.",
        ),
    ):
        command = decorate(command)
    return command


@click.command("start")
@source_options
@click.pass_obj
def command(
    hooks: Hooks,
    data: str | None,
    port: int | None,
    brokers: int | None,
    settings: tuple[str, ...],
    file: str | None,
    strict: bool,
) -> None:
    """Be a broker in the foreground until SIGTERM or Ctrl-C.

    Prints `ready bootstrap=HOST:PORT unix=PATH data=DIR` once it serves. Keys are Kafka's: of the file, above
    them KAFKA_* variables, above those --set, --data and --port. `tailrace config describe` shows what that
    makes.

    \b
    Example: tailrace start --data ./data --set num.partitions=3
    """
    raise SystemExit(start(StartArguments(data, port, brokers, settings, file, strict), hooks))
