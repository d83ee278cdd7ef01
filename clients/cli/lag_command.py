"""`tailrace lag`: how far groups are behind, once or again and again, and whether that is too much."""

import json
import sys
import time
from collections.abc import Sequence

import click
import msgspec

from tailrace.clients.cli.failures import FAILED, say
from tailrace.clients.cli.options import Seconds, bootstrap_option, connect, output_option, timeout_option
from tailrace.clients.cli.output import print_json, print_table
from tailrace.clients.cluster import Cluster
from tailrace.clients.groups import Groups
from tailrace.clients.lag import PartitionLag, lag_of

CLEAR = "\x1b[H\x1b[2J"  # what a terminal obeys: home, clear
COLUMNS = ("GROUP", "TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "SECONDS")


class GroupLag(msgspec.Struct, kw_only=True, frozen=True):
    """The lag of a group: records of all its partitions together, seconds of the oldest unread one."""

    group: str
    records: int
    seconds: float
    partitions: list[PartitionLag]


@click.command("lag", short_help="Show how far groups are behind.")
@click.argument("names", nargs=-1, metavar="[GROUP]...")
@click.option("--watch", is_flag=True, help="Again and again, until Ctrl-C or over a limit.")
@click.option(
    "--interval",
    type=Seconds(min=0.1),
    default=2.0,
    show_default=True,
    metavar="S",
    help="Seconds between looks.",
)
@click.option("--max-records", type=click.IntRange(0), metavar="N", help="More unread records are too many.")
@click.option("--max-seconds", type=Seconds(0), metavar="S", help="An older unread record is too old.")
@bootstrap_option
@timeout_option
@output_option
def command(
    names: tuple[str, ...],
    watch: bool,
    interval: float,
    max_records: int | None,
    max_seconds: float | None,
    bootstrap: str,
    timeout: float,
    output: str,
) -> None:
    """Show how far groups (all, unless named) are behind, in records and in seconds.

    Seconds: since the first unread record was written. With --max-records or --max-seconds the exit status is
    1 when any group is further behind. With --watch, JSON is one document a line.

    \b
    Example: tailrace lag billing --max-records 10000 --max-seconds 60
    """
    with connect(bootstrap, timeout) as cluster:
        while True:
            lags = measure(cluster, names)
            _show(lags, output, watched=watch)
            late = [text for lag in lags if (text := excess(lag, max_records, max_seconds))]
            for text in late:
                say(text)
            if late:
                raise SystemExit(FAILED)
            if not watch:
                return
            time.sleep(interval)


def measure(cluster: Cluster, names: Sequence[str]) -> list[GroupLag]:
    """The lag of these groups, or of all that there are. A group that is named must be there."""
    groups = Groups(cluster)
    if not names:
        listed = [group.group_id for group in groups.list() if group.protocol_type in ("", "consumer")]
    else:
        listed = [groups.describe(name).group for name in names]
    lags: list[GroupLag] = []
    for name in listed:
        partitions = lag_of(cluster, name)
        lags.append(
            GroupLag(
                group=name,
                records=sum(part.records or 0 for part in partitions),
                seconds=max((part.seconds or 0.0 for part in partitions), default=0.0),
                partitions=partitions,
            )
        )
    return lags


def excess(lag: GroupLag, max_records: int | None, max_seconds: float | None) -> str:
    """Why the lag is over a limit; "" if it is not."""
    if max_records is not None and lag.records > max_records:
        return f"group {lag.group} is {lag.records} records behind, more than {max_records}"
    if max_seconds is not None and lag.seconds > max_seconds:
        return f"group {lag.group} is {lag.seconds:g} s behind, more than {max_seconds:g} s"
    return ""


def _show(lags: Sequence[GroupLag], output: str, *, watched: bool) -> None:
    if output == "json" and not watched:
        print_json(msgspec.to_builtins(lags))
    elif output == "json":
        sys.stdout.write(json.dumps(msgspec.to_builtins(lags), ensure_ascii=False) + "\n")
    else:
        if watched and sys.stdout.isatty():
            sys.stdout.write(CLEAR)
        rows = [_row(lag.group, part) for lag in lags for part in lag.partitions]
        print_table(COLUMNS, rows)
    sys.stdout.flush()


def _row(group: str, part: PartitionLag) -> list[str]:
    numbers = (part.partition, part.committed, part.end, part.records, part.seconds)
    return [group, part.topic, *("-" if number is None else f"{number}" for number in numbers)]
