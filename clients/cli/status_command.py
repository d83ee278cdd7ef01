"""`tailrace status`: every process of the broker that holds a data directory."""

from contextlib import suppress
from typing import Any

import click

from tailrace.clients.admin import Admin
from tailrace.clients.cli.data_directory import chosen_data_directory
from tailrace.clients.cli.failures import NOT_FOUND, fail
from tailrace.clients.cli.hooks import Hooks
from tailrace.clients.cli.options import output_option
from tailrace.clients.cli.output import print_json, print_table
from tailrace.clients.cluster import Cluster
from tailrace.clients.connection import UnreachableError
from tailrace.core.errors import KafkaError, ProtocolError
from tailrace.core.ids import METADATA_TOPIC_ID, uuid_text

ASK_TIMEOUT_S = 2.0


@click.command("status")
@click.option("--data", metavar="DIR", help="Data directory of the broker.")
@output_option
@click.pass_obj
def command(hooks: Hooks, data: str | None, output: str) -> None:
    """Show every process: role, pid, broker, partitions.

    \b
    Example: tailrace status -o json
    """
    directory = chosen_data_directory(data, hooks.read_pid)
    status = hooks.read_status(directory)
    if status is None:
        fail(f"no broker runs on {directory}", NOT_FOUND)
    _name_topics(status)
    if output == "json":
        print_json(status)
        return
    where = f"bootstrap={status['bootstrap']} unix={status['unix']} data={status['data']}"
    click.echo(f"{where} flush.policy={status['flush_policy']}")
    for log_dir in status["log_dirs"]:
        if log_dir["failure"]:
            click.echo(f"offline: {log_dir['path']}: {log_dir['failure']}")
        elif log_dir["lacking_bytes"]:
            more = f"{log_dir['lacking_bytes']} more bytes"
            why = f"appends are refused until {more} are free (disk.reserve.bytes)"
            click.echo(f"full: {log_dir['path']}: {why}")
    print_table(
        ("ROLE", "PID", "BROKER", "STATE", "PARTITIONS"), [_row(process) for process in status["processes"]]
    )


def _row(process: dict[str, Any]) -> tuple[object, ...]:
    partitions = ",".join(f"{owned['topic']}-{owned['partition']}" for owned in process["partitions"])
    return process["role"], process["pid"], process["broker"], process["state"], partitions


def _name_topics(status: dict[str, Any]) -> None:
    """Shared memory knows topics by id; the gateway, if it answers, knows their names."""
    names = {uuid_text(METADATA_TOPIC_ID): "__cluster_metadata"}  # Metadata never lists it
    # Without an answer the processes are shown all the same, with ids for names.
    with (
        suppress(UnreachableError, KafkaError, ProtocolError),
        Cluster(status["bootstrap"], timeout_s=ASK_TIMEOUT_S) as cluster,
    ):
        for topic in Admin(cluster).list_topics():
            names[uuid_text(topic.topic_id)] = topic.name or ""
    for process in status["processes"]:
        for owned in process["partitions"]:
            owned["topic"] = names.get(owned["topic_id"], owned["topic_id"])
