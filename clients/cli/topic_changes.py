"""`tailrace topic alter-config | add-partitions | trim`: what changes a topic that is there."""

import click

from tailrace.clients.admin import HIGH_WATERMARK, Admin
from tailrace.clients.cli.failures import NOT_FOUND, fail
from tailrace.clients.cli.options import bootstrap_option, connect, output_option, timeout_option
from tailrace.clients.cli.output import print_json, print_table
from tailrace.clients.cli.places import END, OFFSET, TIME, Place, parse_time_ms, resolve
from tailrace.clients.cluster import Cluster
from tailrace.core.protocol.messages.list_offsets import EARLIEST


@click.command("alter-config")
@click.argument("topic")
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--delete", "deleted", multiple=True, metavar="KEY", help="Back to the broker's default.")
@click.option("--validate-only", is_flag=True, help="Only say whether it could be done.")
@bootstrap_option
@timeout_option
@output_option
def alter_config(
    topic: str,
    settings: tuple[str, ...],
    deleted: tuple[str, ...],
    validate_only: bool,
    bootstrap: str,
    timeout: float,
    output: str,
) -> None:
    """Change configs of a topic; those that are not named stay.

    \b
    Example: tailrace topic alter-config orders retention.ms=86400000 --delete segment.bytes
    """
    changes: dict[str, str | None] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not key or not equals:
            raise click.UsageError(f"{setting}: KEY=VALUE is expected")
        changes[key] = value
    for key in deleted:
        if key in changes:
            raise click.UsageError(f"{key} is set and deleted")
        changes[key] = None
    if not changes:
        raise click.UsageError("KEY=VALUE or --delete KEY is needed")
    with connect(bootstrap, timeout) as cluster:
        Admin(cluster).alter_topic_configs(topic, changes, validate_only=validate_only)
    if output == "json":
        print_json({"topic": topic, "configs": changes})
    else:
        click.echo(f"{'could alter' if validate_only else 'altered'} {topic}")


@click.command("add-partitions")
@click.argument("topic")
@click.argument("count", type=click.IntRange(1, 2**30), metavar="N")
@click.option("--validate-only", is_flag=True, help="Only say whether it could be done.")
@bootstrap_option
@timeout_option
@output_option
def add_partitions(
    topic: str, count: int, validate_only: bool, bootstrap: str, timeout: float, output: str
) -> None:
    """Add N partitions to a topic. Records stay where they are; new ones of a key may go elsewhere.

    \b
    Example: tailrace topic add-partitions orders 3
    """
    with connect(bootstrap, timeout) as cluster:
        total = len(cluster.topic(topic).partitions) + count
        Admin(cluster).create_partitions(topic, total, validate_only=validate_only)
    if output == "json":
        print_json({"topic": topic, "partitions": total})
    else:
        click.echo(f"{topic} {'could have' if validate_only else 'has'} {total} partitions")


@click.command("trim", short_help="Delete the oldest records, for good.")
@click.argument("topic")
@click.option("--before-offset", metavar="N", help="Delete records before this offset; end: all of them.")
@click.option("--before-time", metavar="TIME", help="Delete records before the first at or after TIME.")
@click.option("-p", "--partition", "partitions", multiple=True, type=click.IntRange(0), help="Default: all.")
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@bootstrap_option
@timeout_option
@output_option
def trim(
    topic: str,
    before_offset: str | None,
    before_time: str | None,
    partitions: tuple[int, ...],
    dry_run: bool,
    bootstrap: str,
    timeout: float,
    output: str,
) -> None:
    """Delete the oldest records of a topic's partitions, for good.

    TIME is 2026-01-31T12:00 (UTC unless it says otherwise), milliseconds since 1970, or -90m for so long ago.

    \b
    Example: tailrace topic trim orders --before-time -7d
    """
    if (before_offset is None) == (before_time is None):
        raise click.UsageError("one of --before-offset and --before-time is needed")
    before_ms = None if before_time is None else parse_time_ms(before_time)
    offset = HIGH_WATERMARK
    if before_offset not in (None, "end"):
        if not (before_offset.isascii() and before_offset.isdigit() and len(before_offset) < 19):
            raise click.UsageError(f"--before-offset {before_offset}: a number or end is expected")
        offset = int(before_offset)
    with connect(bootstrap, timeout) as cluster:
        rows = _trim(cluster, topic, partitions, before_ms, offset, dry_run)
    if output == "json":
        print_json([dict(zip(("topic", "partition", "before", "after"), row, strict=True)) for row in rows])
    else:
        print_table(("TOPIC", "PARTITION", "START", "WOULD START" if dry_run else "NOW"), rows)


def _trim(
    cluster: Cluster,
    topic: str,
    partitions: tuple[int, ...],
    before_ms: int | None,
    offset: int,
    dry_run: bool,
) -> list[tuple[str, int, int, int]]:
    """Topic, partition, first offset before, and after."""
    admin = Admin(cluster)
    known = sorted(part.partition_index for part in cluster.topic(topic).partitions)
    missing = set(partitions).difference(known)
    if missing:
        fail(f"topic {topic} has no partition {min(missing)}", NOT_FOUND)
    chosen = sorted(set(partitions)) or known
    starts = admin.find_offsets(topic, dict.fromkeys(chosen, EARLIEST))
    before = dict.fromkeys(chosen, offset)
    if before_ms is not None:
        before = resolve(admin, topic, dict.fromkeys(chosen, Place(kind=TIME, number=before_ms)), {})
    if dry_run:
        places = {
            index: Place(kind=END) if at == HIGH_WATERMARK else Place(kind=OFFSET, number=at)
            for index, at in before.items()
        }
        after = resolve(admin, topic, places, {})
    else:
        after = admin.delete_records(topic, before)
    return [(topic, index, starts[index].offset, after[index]) for index in chosen]
