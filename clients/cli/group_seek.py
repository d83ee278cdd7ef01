"""`tailrace group seek` and `group reset`: set the committed offsets of a group whose members are gone.

`seek` does it at once; `reset` has the flags of Kafka's own tool and, like that, only shows what it would do
until it is told `--execute`.
"""

from collections.abc import Mapping, Sequence

import click
import msgspec

from tailrace.clients.admin import Admin
from tailrace.clients.cli.failures import NOT_FOUND, fail
from tailrace.clients.cli.options import bootstrap_option, connect, output_option, timeout_option
from tailrace.clients.cli.output import print_json, print_table
from tailrace.clients.cli.places import (
    CURRENT,
    END,
    OFFSET,
    SHIFT,
    START,
    TIME,
    Place,
    ago_ms,
    parse_duration_ms,
    parse_place,
    parse_time_ms,
    read_offsets_file,
    resolve,
)
from tailrace.clients.cluster import Cluster
from tailrace.clients.groups import Groups, Offsets
from tailrace.core import errors
from tailrace.core.errors import KafkaError

Targets = dict[str, dict[int, Place]]  # topic -> partition -> where to


class Move(msgspec.Struct, kw_only=True, frozen=True):
    """A committed offset before and after; None: there was none."""

    topic: str
    partition: int
    before: int | None
    after: int


@click.command("seek")
@click.argument("group")
@click.option(
    "--to",
    "place",
    metavar="PLACE",
    help="start, end, OFFSET, +N or -N from where it is, @TIME, @-90m (ago).",
)
@click.option(
    "--to-file", "file", metavar="FILE", help="TOPIC PARTITION OFFSET a line, blanks or commas between."
)
@click.option(
    "-t", "--topic", "topics", multiple=True, metavar="TOPIC[:P,P]", help="Default: all it has offsets of."
)
@bootstrap_option
@timeout_option
@output_option
def seek(
    group: str,
    place: str | None,
    file: str | None,
    topics: tuple[str, ...],
    bootstrap: str,
    timeout: float,
    output: str,
) -> None:
    """Move a group to a place in its topics, at once. Its members must be stopped.

    Offsets stay between the start and the end of what is there. Times are UTC unless they say otherwise.

    \b
    Example: tailrace group seek billing --to @2026-01-31T12:00 -t orders
    """
    if (place is None) == (file is None):
        raise click.UsageError("one of --to and --to-file is needed")
    goal = None if place is None else parse_place(place)
    with connect(bootstrap, timeout) as cluster:
        moves = plan(cluster, group, goal, file, topics)
        Groups(cluster).commit(group, _offsets(moves))
    show(moves, output)


@click.command("reset", short_help="Reset offsets, as kafka-consumer-groups does.")
@click.argument("group")
@click.option("--to-earliest", is_flag=True, help="To the first offset.")
@click.option("--to-latest", is_flag=True, help="To the end.")
@click.option("--to-current", is_flag=True, help="To where it is: to see it, to --export it.")
@click.option("--to-offset", type=click.IntRange(0), metavar="N", help="To an offset.")
@click.option("--shift-by", type=int, metavar="N", help="By as many records, forward or (negative) back.")
@click.option(
    "--to-datetime", metavar="TIME", help="To the first record at or after YYYY-MM-DDTHH:mm:SS.sss."
)
@click.option("--by-duration", metavar="PnDTnHnMnS", help="To the first record of the last so long.")
@click.option("--from-file", "file", metavar="FILE", help="To what --export wrote.")
@click.option(
    "--topic", "topics", multiple=True, metavar="TOPIC[:P,P]", help="Which topics, or partitions of them."
)
@click.option("--all-topics", is_flag=True, help="Every topic that it has offsets of.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done: the default.")
@click.option("--execute", is_flag=True, help="Do it.")
@click.option("--export", is_flag=True, help="Print topic,partition,offset lines.")
@bootstrap_option
@timeout_option
@output_option
def reset(
    group: str,
    file: str | None,
    topics: tuple[str, ...],
    all_topics: bool,
    dry_run: bool,
    execute: bool,
    export: bool,
    bootstrap: str,
    timeout: float,
    output: str,
    **places: bool | int | str | None,
) -> None:
    """Reset the offsets of a group as kafka-consumer-groups --reset-offsets does.

    Its members must be stopped. Without --execute nothing is changed.

    \b
    Example: tailrace group reset billing --to-earliest --all-topics --execute
    """
    goal = _goal(places)
    if (goal is None) == (file is None):
        raise click.UsageError(
            "exactly one of the --to-..., --shift-by, --by-duration and --from-file is needed"
        )
    if not (topics or all_topics or file) or (topics and all_topics):
        raise click.UsageError("one of --topic and --all-topics is needed")
    if dry_run and execute:
        raise click.UsageError("--dry-run and --execute exclude each other")
    with connect(bootstrap, timeout) as cluster:
        moves = plan(cluster, group, goal, file, topics)
        if execute:
            Groups(cluster).commit(group, _offsets(moves))
    if export:
        click.echo("".join(f"{move.topic},{move.partition},{move.after}\n" for move in moves), nl=False)
        return
    show(moves, output)
    if not execute and output == "table":
        click.echo("nothing is changed: add --execute", err=True)


def plan(
    cluster: Cluster, group: str, goal: Place | None, file: str | None, topics: Sequence[str]
) -> list[Move]:
    """What would be committed: for one place, or for the offsets in a file."""
    committed = Groups(cluster).offsets(group)
    _refuse_members(cluster, group)
    if goal is None:
        offsets = read_offsets_file(file or "", group)
        named = dict(_partitions(cluster, topics)) if topics else None
        targets: Targets = {
            topic: {
                index: Place(kind=OFFSET, number=offset)
                for index, offset in partitions.items()
                if named is None or index in named.get(topic, ())
            }
            for topic, partitions in offsets.items()
        }
    elif topics:
        targets = {topic: dict.fromkeys(indexes, goal) for topic, indexes in _partitions(cluster, topics)}
    else:
        targets = {topic: dict.fromkeys(partitions, goal) for topic, partitions in committed.items()}
    if not any(targets.values()):
        fail(f"group {group} has no offsets: name topics with --topic", NOT_FOUND)
    moves: list[Move] = []
    for topic, places in sorted(targets.items()):
        before = committed.get(topic, {})
        for index, after in sorted(resolve(Admin(cluster), topic, places, before).items()):
            moves.append(Move(topic=topic, partition=index, before=before.get(index), after=after))
    return moves


def show(moves: Sequence[Move], output: str) -> None:
    """The moves, for people or for programs."""
    if output == "json":
        print_json(msgspec.to_builtins(moves))
        return
    rows = [
        (move.topic, move.partition, "-" if move.before is None else move.before, move.after)
        for move in moves
    ]
    print_table(("TOPIC", "PARTITION", "BEFORE", "AFTER"), rows)


def parse_topics(texts: Sequence[str]) -> dict[str, list[int] | None]:
    """TOPIC or TOPIC:P,P; None stands for all partitions."""
    found: dict[str, list[int] | None] = {}
    for text in texts:
        topic, colon, rest = text.partition(":")
        indexes = rest.split(",") if colon else []
        if not topic or not all(index.isascii() and index.isdigit() and len(index) < 10 for index in indexes):
            raise click.UsageError(f"{text!r}: TOPIC or TOPIC:PARTITION,PARTITION is expected")
        found[topic] = sorted({int(index) for index in indexes}) if colon else None
    return found


def _partitions(cluster: Cluster, texts: Sequence[str]) -> list[tuple[str, list[int]]]:
    found: list[tuple[str, list[int]]] = []
    for topic, indexes in parse_topics(texts).items():
        known = sorted(part.partition_index for part in cluster.topic(topic).partitions)
        found.append((topic, known if indexes is None else indexes))
    return found


def _refuse_members(cluster: Cluster, group: str) -> None:
    """The broker refuses too, but cannot say it in these words."""
    try:
        members = Groups(cluster).describe(group).members
    except KafkaError as error:
        if error.code != errors.GROUP_ID_NOT_FOUND:
            raise
        return  # a commit makes it
    if members:
        fail(f"group {group} has members ({len(members)}), which know where they are: stop them first")


def _offsets(moves: Sequence[Move]) -> Offsets:
    offsets: Offsets = {}
    for move in moves:
        offsets.setdefault(move.topic, {})[move.partition] = move.after
    return offsets


def _goal(places: Mapping[str, bool | int | str | None]) -> Place | None:
    """The one place that Kafka's flags name, None for none of them."""
    goals: list[Place] = []
    for name, value in places.items():
        if value is None or value is False:
            continue
        if isinstance(value, str):
            duration = name == "by_duration"
            ms = ago_ms(parse_duration_ms(value)) if duration else parse_time_ms(value)
            goals.append(Place(kind=TIME, number=ms))
        else:
            kinds = {"to_earliest": START, "to_latest": END, "to_current": CURRENT, "to_offset": OFFSET}
            goals.append(Place(kind=kinds.get(name, SHIFT), number=int(value)))
    if len(goals) > 1:
        raise click.UsageError("only one place can be named")
    return goals[0] if goals else None
