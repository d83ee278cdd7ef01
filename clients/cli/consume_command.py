"""`tailrace consume`: records of a topic to stdout; kcat's short flags."""

import json
import sys

import click

from tailrace.clients.cli.failures import NOT_FOUND, fail
from tailrace.clients.cli.options import bootstrap_option, client_properties, connect, whole_number
from tailrace.clients.cli.texts import Formatter, compile_format, envelope, unescape
from tailrace.clients.consumer import MAX_WAIT_MS, PARTITION_MAX_BYTES, Consumer

PROPERTIES = {
    "fetch.wait.max.ms": "max_wait_ms",
    "fetch.max.wait.ms": "max_wait_ms",
    "max.partition.fetch.bytes": "partition_max_bytes",
    "request.timeout.ms": "timeout_ms",
}


@click.command("consume")
@bootstrap_option
@click.option("-t", "--topic", required=True, metavar="TOPIC")
@click.option("-p", "--partition", type=int, default=-1, help="-1, the default: all.")
@click.option(
    "-o",
    "--offset",
    "offsets",
    multiple=True,
    metavar="OFFSET",
    help="beginning (default), end, N, -N from the end, s@MS from a time, e@MS up to a time.",
)
@click.option("-c", "count", type=click.IntRange(1), default=None, help="Stop after so many records.")
@click.option("-e", "until_end", is_flag=True, help="Stop at the end of all partitions.")
@click.option("-J", "as_json", is_flag=True, help="A JSON object a record.")
@click.option("-f", "template", metavar="FORMAT", help="%s %S %k %K %T %h %o %p %t and escapes.")
@click.option("-K", "key_delimiter", metavar="DELIM", help="Print KEY DELIM VALUE.")
@click.option("-D", "delimiter", metavar="DELIM", default="\\n", show_default=True, help="Between records.")
@click.option("-Z", "show_null", is_flag=True, help="Print NULL for a missing key or value.")
@click.option("-q", "quiet", is_flag=True, help="Say nothing about the ends of partitions.")
@click.option("-u", "unbuffered", is_flag=True, help="Hand every record on at once.")
@click.option("-X", "properties", multiple=True, metavar="KEY=VALUE", help="Client property.")
def command(
    bootstrap: str,
    topic: str,
    partition: int,
    offsets: tuple[str, ...],
    count: int | None,
    until_end: bool,
    as_json: bool,
    template: str | None,
    key_delimiter: str | None,
    delimiter: str,
    show_null: bool,
    quiet: bool,
    unbuffered: bool,
    properties: tuple[str, ...],
) -> None:
    """Print the records of a topic.

    \b
    Example: tailrace consume -t orders -o beginning -e -f '%p %o %k=%s\\n'
    """
    settings = client_properties(properties, PROPERTIES)
    show = _formatter(as_json, template, key_delimiter, delimiter, show_null)
    start, stop_ms = _places(offsets)
    with connect(bootstrap, whole_number(settings, "timeout_ms", 30_000) / 1000) as cluster:
        known = sorted(part.partition_index for part in cluster.topic(topic).partitions)
        if partition >= 0 and partition not in known:
            fail(f"topic {topic} has no partition {partition}", NOT_FOUND)
        consumer = Consumer(
            cluster,
            topic,
            max_wait_ms=whole_number(settings, "max_wait_ms", MAX_WAIT_MS),
            partition_max_bytes=whole_number(settings, "partition_max_bytes", PARTITION_MAX_BYTES),
        )
        for index in known if partition < 0 else [partition]:
            consumer.assign(index, start)
        ends = (
            {}
            if stop_ms is None
            else {index: consumer.find(index, f"@{stop_ms}") for index in consumer.positions}
        )
        _print(consumer, topic, show, count, until_end, ends, quiet, unbuffered)


def _print(
    consumer: Consumer,
    topic: str,
    show: Formatter,
    count: int | None,
    until_end: bool,
    ends: dict[int, int],
    quiet: bool,
    unbuffered: bool,
) -> None:
    out = sys.stdout.buffer
    left = count
    told: dict[int, int] = {}
    _pause_finished(consumer, ends)
    while consumer.positions:
        for record in consumer.poll():
            if record.offset >= ends.get(record.partition, record.offset + 1):
                continue
            out.write(show(record))
            if unbuffered:
                out.flush()
            if left is not None:
                left -= 1
                if not left:
                    out.flush()
                    return
        out.flush()
        for partition, position in list(consumer.positions.items()):
            if consumer.at_end(partition) and told.get(partition) != position:
                told[partition] = position
                if not quiet:
                    click.echo(f"% Reached end of topic {topic} [{partition}] at offset {position}", err=True)
                if until_end:
                    consumer.pause(partition)
        _pause_finished(consumer, ends)


def _pause_finished(consumer: Consumer, ends: dict[int, int]) -> None:
    for partition, end in ends.items():
        if consumer.positions.get(partition, -1) >= end:
            consumer.pause(partition)


def _places(offsets: tuple[str, ...]) -> tuple[str, int | None]:
    """Where to start, and the timestamp at which to stop."""
    start, stop_ms = "beginning", None
    for offset in offsets:
        head, _, milliseconds = offset.partition("@")
        if head in ("s", "e") and milliseconds.isascii() and milliseconds.isdigit():
            if head == "s":
                start = f"@{milliseconds}"
            else:
                stop_ms = int(milliseconds)
        elif offset in ("beginning", "end") or offset.removeprefix("-").isdecimal():
            start = offset
        elif offset == "stored":
            raise click.UsageError(
                "-o stored: this command belongs to no group; `tailrace group describe` shows what is stored"
            )
        else:
            raise click.UsageError(f"-o {offset}: beginning, end, N, -N, s@MS or e@MS is expected")
    return start, stop_ms


def _formatter(
    as_json: bool, template: str | None, key_delimiter: str | None, delimiter: str, show_null: bool
) -> Formatter:
    try:
        if as_json:
            return lambda record: json.dumps(envelope(record), ensure_ascii=False).encode() + b"\n"
        if template is not None:
            return compile_format(template)
        between = None if key_delimiter is None else unescape(key_delimiter)
        after = unescape(delimiter)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    null = b"NULL" if show_null else b""

    def part(data: bytes | None) -> bytes:
        return null if data is None else data

    if between is None:
        return lambda record: part(record.value) + after
    return lambda record: part(record.key) + between + part(record.value) + after
