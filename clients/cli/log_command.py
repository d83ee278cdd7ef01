"""`tailrace log dump | verify`: files of a log, read where they lie; no broker is asked."""

import json
import os
import sys
from typing import Any

import click
import msgspec

from tailrace.clients.cli.failures import FAILED, NOT_FOUND, USAGE, fail
from tailrace.clients.cli.hooks import Hooks
from tailrace.clients.cli.log_dump import BadFileError, Entry, ShowRecord, dump, show_as_text
from tailrace.clients.cli.options import output_option
from tailrace.clients.cli.output import print_json, print_table
from tailrace.core.log.checkpoints import PARTITION_METADATA
from tailrace.core.log.directory import RealDirectory
from tailrace.core.log.segment import LOG_SUFFIX, offset_of
from tailrace.core.log.verification import Verified, verify


@click.group("log")
def command() -> None:
    """Look into the files of a log; no broker is asked.

    \b
    Example: tailrace log verify ./data
    """


@command.command("dump", short_help="Print a file of a log, an entry a line.")
@click.argument("path")
@click.option("--records", is_flag=True, help="Of a .log file: also the records in its batches.")
@click.option("--offsets", is_flag=True, help="The same, of __consumer_offsets, in words.")
@output_option
def dump_file(path: str, records: bool, offsets: bool, output: str) -> None:
    """Print a .log, .index, .timeindex or .snapshot file, or a checkpoint, an entry a line.

    In JSON each line is an object. A damaged file is printed as far as it is sound, and the exit status is 1.

    \b
    Example: tailrace log dump data/orders-0/00000000000000000000.log --records
    """
    show_record: ShowRecord | None = show_as_text if records else None
    if offsets:
        from tailrace.clients.cli.log_offsets import show_as_offset

        show_record = show_as_offset
    write = sys.stdout.write
    try:
        for entry in dump(path, show_record):
            write(json.dumps(entry, ensure_ascii=False) + "\n" if output == "json" else _line(entry))
    except BadFileError as error:
        sys.stdout.flush()
        fail(str(error))


@command.command("verify", short_help="Check the files of partitions.")
@click.argument("directories", metavar="DIR...", nargs=-1, required=True)
@click.option("--records", is_flag=True, help="Decompress and read every record too.")
@output_option
@click.pass_obj
def verify_directories(hooks: Hooks, directories: tuple[str, ...], records: bool, output: str) -> None:
    """Check the partitions of data directories, or single ones; nothing is changed.

    Batches: whole, CRC, order of offsets and epochs. Indexes: each entry agrees with its batch. The exit
    status is 1 when there is a fault. The broker must be stopped: what it is just writing looks like damage.

    \b
    Example: tailrace log verify ./data/orders-0
    """
    partitions = [path for directory in directories for path in _partitions(directory)]
    for directory in directories:
        holder = _holder(hooks, directory)
        if holder is not None:
            fail(f"a broker (process {holder}) writes to {directory}: stop it with `tailrace stop` first")
    shown = [(path, verify(RealDirectory(path, make=False), records=records)) for path in partitions]
    if output == "json":
        print_json([_as_json(path, found) for path, found in shown])
    else:
        rows = [
            (os.path.basename(path), found.segments, found.batches, found.records, found.size,
             found.end_offset, len(found.faults) or "ok")
            for path, found in shown
        ]  # fmt: skip
        print_table(("PARTITION", "SEGMENTS", "BATCHES", "RECORDS", "BYTES", "END", "FAULTS"), rows)
        for path, found in shown:
            for fault in found.faults:
                place = f" at byte {fault.position}" if fault.position >= 0 else ""
                click.echo(f"{os.path.join(path, fault.file)}{place}: {fault.what}")
    if any(found.faults for _, found in shown):
        raise SystemExit(FAILED)


def _partitions(directory: str) -> list[str]:
    """The partitions' directories in a data directory, or the one that was named; absolute."""
    if not os.path.isdir(directory):
        fail(f"{directory}: no such directory", NOT_FOUND)
    directory = os.path.abspath(directory)
    if _is_partition(directory):
        return [directory]
    found = [
        path
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name)
        if entry.is_dir() and _is_partition(path := entry.path)
    ]
    if not found and not os.path.exists(os.path.join(directory, "meta.properties")):
        fail(
            f"{directory} holds no partition: name a data directory, or a partition's directory in it", USAGE
        )
    return found


def _is_partition(path: str) -> bool:
    names = os.listdir(path)
    return PARTITION_METADATA in names or any(offset_of(name, LOG_SUFFIX) is not None for name in names)


def _holder(hooks: Hooks, directory: str) -> int | None:
    """The broker that holds the data directory, or that of the partition; None if none can be seen."""
    for place in (os.path.abspath(directory), os.path.dirname(os.path.abspath(directory))):
        try:
            pid = hooks.read_pid(place)
        except OSError:  # of a copy that may only be read: nobody writes to it
            continue
        if pid is not None:
            return pid
    return None


def _as_json(path: str, found: Verified) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(found)
    return {"path": path, **shown}


def _line(entry: Entry) -> str:
    """NAME VALUE pairs on one line, whatever is in the values."""
    return "  ".join(f"{name} {_cell(value)}" for name, value in entry.items()) + "\n"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    is_plain = isinstance(value, str) and value.replace("_", "").isalnum()
    return str(value) if is_plain or isinstance(value, int) else json.dumps(value, ensure_ascii=False)
