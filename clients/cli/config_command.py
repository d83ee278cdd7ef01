"""`tailrace config describe`: what `tailrace start` with the same options would be told, and by whom."""

import click

from tailrace.clients.cli.failures import say
from tailrace.clients.cli.options import output_option
from tailrace.clients.cli.output import print_json, print_table
from tailrace.clients.cli.start import StartArguments, configure
from tailrace.clients.cli.start_command import source_options
from tailrace.core.config_describe import describe as describe_config
from tailrace.core.config_describe import describe_ignored


@click.group("config")
def command() -> None:
    """Show configurations of brokers.

    \b
    Example: tailrace config describe server.properties
    """


@command.command("describe")
@source_options
@click.option("--ignored", is_flag=True, help="Instead, the keys that are accepted and have no effect.")
@output_option
def describe(
    data: str | None,
    brokers: int | None,
    port: int | None,
    settings: tuple[str, ...],
    file: str | None,
    strict: bool,
    ignored: bool,
    output: str,
) -> None:
    """Show each key of a broker, its value, and where that comes from.

    Asks no broker: shows what `tailrace start` with the same options, in the same environment, would obey.
    The source is default, file, environment or command line. Secrets are hidden.

    \b
    Example: tailrace config describe --set num.partitions=3 server.properties
    """
    config, warnings = configure(StartArguments(data, port, brokers, settings, file, strict))
    for warning in warnings:
        say(f"warning: {warning}")
    shown = describe_ignored(config) if ignored else describe_config(config)
    if output == "json":
        print_json([entry._asdict() for entry in shown])
        return
    rows = [(entry.key, entry.value or "-", entry.source) for entry in shown]
    print_table(("KEY", "VALUE", "SOURCE"), rows)
