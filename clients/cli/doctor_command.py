"""`tailrace doctor`: whether this machine and data directory are fit for a broker, and what to do if not."""

import os

import click
import msgspec

from tailrace.clients.cli.doctor_checks import FAIL, Patient, examine
from tailrace.clients.cli.failures import FAILED
from tailrace.clients.cli.hooks import Hooks
from tailrace.clients.cli.options import output_option
from tailrace.clients.cli.output import print_json, print_table
from tailrace.clients.cli.start import StartArguments, configure
from tailrace.clients.cli.start_command import source_options
from tailrace.core.config_brokers import split


@click.command("doctor", short_help="Check this machine and a data directory.")
@source_options
@output_option
@click.pass_obj
def command(
    hooks: Hooks,
    data: str | None,
    brokers: int | None,
    port: int | None,
    settings: tuple[str, ...],
    file: str | None,
    strict: bool,
    output: str,
) -> None:
    """Check this machine and a data directory, with or without a running broker.

    Takes the options of `tailrace start`, and changes nothing. Each line is ok, warn or fail, with what to
    do. The exit status is 1 when one of them is fail.

    \b
    Example: tailrace doctor --data ./data
    """
    config, _ = configure(StartArguments(data, port, brokers, settings, file, strict))
    configs = split(config)
    named = [name for each in configs for name in (*each.log_dirs, each.metadata_log_dir)]
    directories = tuple(dict.fromkeys(map(os.path.abspath, named)))
    holders = ((directory, _holder(hooks, directory)) for directory in directories)
    held, pid = next((found for found in holders if found[1] is not None), (directories[0], None))
    patient = Patient(hooks=hooks, config=config, data=held, directories=directories, pid=pid)
    findings = list(examine(patient))
    if output == "json":
        print_json(msgspec.to_builtins(findings))
    else:
        rows = [
            (found.status, found.check, f"{found.found}: {found.advice}" if found.advice else found.found)
            for found in findings
        ]
        print_table(("STATUS", "CHECK", "FOUND"), rows)
    if any(found.status == FAIL for found in findings):
        raise SystemExit(FAILED)


def _holder(hooks: Hooks, directory: str) -> int | None:
    try:
        return hooks.read_pid(directory)
    except OSError:  # a directory that is not ours: a check of its own says so
        return None
