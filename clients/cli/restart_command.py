"""`tailrace restart --rolling`: every broker of a running host anew, one after the other."""

import time
from collections.abc import Callable
from typing import Any

import click

from tailrace.clients.cli.broker_command import ask_supervisor, data_option
from tailrace.clients.cli.failures import fail
from tailrace.clients.cli.hooks import Hooks
from tailrace.clients.cli.options import Seconds
from tailrace.clients.cluster import Cluster
from tailrace.clients.connection import UnreachableError
from tailrace.core.errors import KafkaError

LOOK_S = 0.1  # between two looks whether all replicas are in sync


@click.command("restart")
@click.option("--rolling", is_flag=True, required=True, help="One broker after the other.")
@data_option
@click.option(
    "--timeout",
    type=Seconds(min=0.001),
    default=90.0,
    show_default=True,
    help="Seconds to wait for each step of each broker.",
)
@click.pass_obj
def command(hooks: Hooks, rolling: bool, data: str | None, timeout: float) -> None:
    """Restart every broker of a running host, one after the other.

    Each hands over what it leads, stops and starts again; the next one waits until every replica of every
    partition is in sync. Topics with several replicas are served all the time.

    \b
    Example: tailrace restart --rolling
    """
    assert rolling, "there is no other way yet"
    brokers = ask_supervisor(hooks, data, "list", -1, timeout)
    for broker in brokers:
        if broker["state"] == "stopping":
            fail(f"broker {broker['node_id']} is stopping: try again when that is over")
        if broker["state"] != "running":
            fail(f"broker {broker['node_id']} is {broker['state']}: start it first")

    def look() -> list[dict[str, Any]]:
        return ask_supervisor(hooks, data, "list", -1, timeout)

    _wait_in_sync(look, timeout)
    for broker in brokers:
        node_id = broker["node_id"]
        ask_supervisor(hooks, data, "stop", node_id, timeout)
        ask_supervisor(hooks, data, "start", node_id, timeout)
        _wait_in_sync(look, timeout)
        click.echo(f"broker {node_id} is back, all replicas are in sync")


def _wait_in_sync(look: Callable[[], list[dict[str, Any]]], timeout_s: float) -> None:
    """Until every broker says that all are there and in sync: one that has just started may tell of old
    times. There is nothing to wait for once somebody else has stopped one.
    """
    deadline_s = time.monotonic() + timeout_s
    brokers = look()
    for broker in brokers:
        with Cluster(broker["bootstrap"], timeout_s=timeout_s) as cluster:
            while lacking := _lacking(cluster, len(brokers)):
                for other in look():
                    if other["state"] in ("stopping", "stopped"):
                        fail(f"broker {other['node_id']} is {other['state']}; no further broker is restarted")
                if time.monotonic() >= deadline_s:
                    fail(f"{lacking} within {timeout_s:g} s; no further broker is restarted")
                time.sleep(LOOK_S)


def _lacking(cluster: Cluster, broker_count: int) -> str:
    """What keeps the next broker from being stopped, as this one tells; empty: nothing."""
    try:
        told = cluster.metadata(None)
    except (UnreachableError, KafkaError) as error:
        return str(error)
    if len(told.brokers) < broker_count:
        return f"{len(told.brokers)} brokers of {broker_count} are there"
    for topic in told.topics:
        for partition in topic.partitions:
            if partition.error_code or set(partition.isr_nodes) != set(partition.replica_nodes):
                return f"not all replicas of {topic.name}-{partition.partition_index} are in sync"
    return ""
