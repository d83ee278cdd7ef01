"""`tailrace group list | describe | seek | reset | delete`."""

from typing import Any, cast

import click
import msgspec

from tailrace.clients.cli.failures import NOT_FOUND, fail
from tailrace.clients.cli.group_seek import parse_topics, reset, seek
from tailrace.clients.cli.options import bootstrap_option, connect, output_option, timeout_option
from tailrace.clients.cli.output import print_json, print_table
from tailrace.clients.cluster import Cluster
from tailrace.clients.groups import Groups, Offsets
from tailrace.clients.lag import lag_of

STATES = ("Stable", "PreparingRebalance", "CompletingRebalance", "Assigning", "Reconciling", "Empty", "Dead")
KINDS = ("classic", "consumer", "share", "streams")  # the last two: of Apache Kafka
MEMBER_COLUMNS = {
    "MEMBER": "member_id",
    "INSTANCE": "instance_id",
    "CLIENT": "client_id",
    "HOST": "host",
    "ASSIGNMENT": "assignment",
}
PARTITION_COLUMNS = {
    "TOPIC": "topic",
    "PARTITION": "partition",
    "COMMITTED": "committed",
    "END": "end",
    "LAG": "records",
    "SECONDS": "seconds",
    "MEMBER": "member_id",
}


@click.group("group")
def command() -> None:
    """List, describe, move and delete consumer groups.

    \b
    Example: tailrace group describe billing
    """


command.add_command(seek)
command.add_command(reset)


@command.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(STATES, case_sensitive=False),
    help="Only of this state.",
)
@click.option(
    "--type",
    "kinds",
    multiple=True,
    type=click.Choice(KINDS, case_sensitive=False),
    help="Only of this type.",
)
@bootstrap_option
@timeout_option
@output_option
def list_groups(
    states: tuple[str, ...], kinds: tuple[str, ...], bootstrap: str, timeout: float, output: str
) -> None:
    """List groups.

    \b
    Example: tailrace group list --state Empty
    """
    with connect(bootstrap, timeout) as cluster:
        groups = Groups(cluster).list(states, kinds)
    rows = [(group.group_id, group.group_state, group.group_type, group.protocol_type) for group in groups]
    if output == "json":
        names = ("group", "state", "type", "protocol_type")
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        print_table(("GROUP", "STATE", "TYPE", "PROTOCOL"), [[cell or "-" for cell in row] for row in rows])


@command.command("describe")
@click.argument("names", nargs=-1, required=True, metavar="GROUP...")
@bootstrap_option
@timeout_option
@output_option
def describe(names: tuple[str, ...], bootstrap: str, timeout: float, output: str) -> None:
    """Show members, who has which partition, offsets and lag.

    The lag is in records, and in seconds since the first unread one was written.

    \b
    Example: tailrace group describe billing
    """
    with connect(bootstrap, timeout) as cluster:
        described = [_describe(cluster, name) for name in names]
    if output == "json":
        print_json(described)
        return
    for group in described:
        epoch = "" if group["epoch"] < 0 else f"  epoch {group['epoch']}"
        click.echo(
            f"{group['group']}  {group['kind']}  {group['state']}  members {len(group['members'])}  "
            f"assignor {group['assignor'] or '-'}{epoch}  coordinator {group['coordinator']}"
        )
        _print_part(MEMBER_COLUMNS, group["members"])
        _print_part(PARTITION_COLUMNS, group["partitions"])


@command.command("delete", short_help="Delete groups without members, or offsets.")
@click.argument("names", nargs=-1, required=True, metavar="GROUP...")
@click.option(
    "-t", "--topic", "topics", multiple=True, metavar="TOPIC[:P,P]", help="Only the offsets of these topics."
)
@bootstrap_option
@timeout_option
@output_option
def delete(
    names: tuple[str, ...], topics: tuple[str, ...], bootstrap: str, timeout: float, output: str
) -> None:
    """Delete groups without members, or only their offsets of some topics.

    \b
    Example: tailrace group delete billing
    """
    wanted = parse_topics(topics)
    with connect(bootstrap, timeout) as cluster:
        groups = Groups(cluster)
        for name in names:
            if wanted:
                groups.delete_offsets(name, _known(name, wanted, groups.offsets(name)))
            else:
                groups.delete(name)
            if output == "table":
                click.echo(f"deleted {'offsets of ' if wanted else ''}{name}")
    if output == "json":
        print_json([{"group": name} for name in names])


def _known(group: str, wanted: dict[str, list[int] | None], offsets: Offsets) -> dict[str, list[int]]:
    """The partitions whose offsets are to go; a failure if there is none of one of them."""
    parts: dict[str, list[int]] = {}
    for topic, indexes in wanted.items():
        known = offsets.get(topic, {})
        missing = [f"{topic}-{index}" for index in indexes or () if index not in known]
        if missing or not known:
            fail(f"group {group} has no offset of {missing[0] if missing else topic}", NOT_FOUND)
        parts[topic] = indexes or list(known)
    return parts


def _describe(cluster: Cluster, name: str) -> dict[str, Any]:
    group = Groups(cluster).describe(name)
    assigned: dict[str, list[int]] = {}
    owners: dict[tuple[str, int], str] = {}
    for member in group.members:
        for topic, indexes in member.assignment.items():
            assigned.setdefault(topic, []).extend(indexes)
            owners.update({(topic, index): member.member_id for index in indexes})
    partitions = [
        {**msgspec.to_builtins(lag), "member_id": owners.get((lag.topic, lag.partition))}
        for lag in lag_of(cluster, name, assigned)
    ]
    shown: dict[str, Any] = msgspec.to_builtins(group)
    return {**shown, "partitions": partitions}


def _print_part(columns: dict[str, str], items: list[dict[str, Any]]) -> None:
    if items:
        print_table(list(columns), [[_cell(item[name]) for name in columns.values()] for item in items])


def _cell(value: Any) -> str:
    if isinstance(value, dict):  # an assignment
        topics = cast(dict[str, list[int]], value)
        parts = (f"{topic}:{','.join(map(str, indexes))}" for topic, indexes in sorted(topics.items()))
        return " ".join(parts) or "-"
    return "-" if value is None else str(value)
