"""What `tailrace log dump` shows of a file, as one dict a line; which kind of file it is says its name.

Files are read where they lie, also while a broker writes to them: then the last batch may be one that is just
being written, and is not shown.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

from tailrace.clients.cli.failures import NOT_FOUND, USAGE, fail
from tailrace.core.errors import KafkaError
from tailrace.core.log import offset_index, time_index
from tailrace.core.log.checkpoints import LEADER_EPOCHS, OFFSET_FILES, read_leader_epochs, read_offsets
from tailrace.core.log.directory import Directory, RealDirectory
from tailrace.core.log.producer_state import decode_snapshot
from tailrace.core.log.scan import scan
from tailrace.core.log.segment import (
    INDEX_SUFFIX,
    LOG_SUFFIX,
    SNAPSHOT_SUFFIX,
    TIME_INDEX_SUFFIX,
    offset_of,
)
from tailrace.core.log.verification import first_fault
from tailrace.core.records.batch import LOG_APPEND_TIME, BatchHeader
from tailrace.core.records.columns import RecordReader
from tailrace.core.records.compression import CODEC_NAMES
from tailrace.core.records.record import DecodedRecord

Entry = dict[str, Any]
ShowRecord = Callable[[DecodedRecord], Entry]


class BadFileError(Exception):
    """The file is damaged from here on; one line."""


def dump(path: str, show_record: ShowRecord | None) -> Iterator[Entry]:
    """The entries of a file; of a log also its records, as `show_record` shows them.

    Raises BadFileError after the last entry that is sound.
    """
    folder, name = os.path.split(os.path.abspath(path))
    if os.path.isdir(path):
        fail(f"{path} is a directory: name a file in it, or use `tailrace log verify`", USAGE)
    if not os.path.exists(path):
        fail(f"{path}: no such file", NOT_FOUND)
    directory = RealDirectory(folder, make=False)
    for suffix, read in _SEGMENT_FILES.items():
        base = offset_of(name, suffix)
        if base is not None:
            return read(directory, name, base)
    if offset_of(name, LOG_SUFFIX) is not None:
        return _batches(directory, name, show_record)
    if name == LEADER_EPOCHS:
        return _leader_epochs(directory)
    if name not in OFFSET_FILES:
        known = ", ".join((LOG_SUFFIX, *_SEGMENT_FILES, LEADER_EPOCHS, *OFFSET_FILES))
        fail(f"{path} is no file of a log: known are {known}", USAGE)
    return _offsets(directory, name)


def text_of(data: bytes | None) -> str | None:
    """Bytes as text; what is no UTF-8 shows as \\xHH."""
    return None if data is None else data.decode("utf-8", "backslashreplace")


def show_as_text(record: DecodedRecord) -> Entry:
    """A record with key and value as text."""
    return {
        "key": text_of(record.key),
        "value": text_of(record.value),
        "headers": [[name, text_of(value)] for name, value in record.headers],
    }


def _batches(directory: Directory, name: str, show_record: ShowRecord | None) -> Iterator[Entry]:
    file, reader = directory.open_read(name), RecordReader()
    try:
        size, end = file.size(), 0
        for position, header in scan(file, 0, size, check=True):
            end = position + header.size
            yield _batch(position, header)
            if show_record is not None:
                yield from _records(reader, file.read(position, header.size), header, show_record)
        fault = first_fault(file, end, size)
        if fault:
            raise BadFileError(f"{name}: at byte {end}: {fault}")
    finally:
        file.release()


def _batch(position: int, header: BatchHeader) -> Entry:
    return {
        "batch": position,
        "base_offset": header.base_offset,
        "last_offset": header.last_offset,
        "records": header.record_count,
        "bytes": header.size,
        "codec": CODEC_NAMES[header.codec] if header.codec < len(CODEC_NAMES) else header.codec,
        "timestamp_type": "log_append" if header.attributes & LOG_APPEND_TIME else "create",
        "max_timestamp": header.max_timestamp,
        "leader_epoch": header.leader_epoch,
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "transactional": header.is_transactional,
        "control": header.is_control,
        "crc": f"{header.crc:08x}",
    }


def _records(
    reader: RecordReader, batch: bytes, header: BatchHeader, show_record: ShowRecord
) -> Iterator[Entry]:
    try:
        for record in reader.records(batch):
            shown = show_as_text(record) if header.is_control else show_record(record)
            yield {"record": record.offset, "timestamp": record.timestamp, **shown}
    except KafkaError as error:
        raise BadFileError(f"the batch of offset {header.base_offset}: {error.message}") from error


def _index(directory: Directory, name: str, base: int) -> Iterator[Entry]:
    for relative, position in offset_index.ENTRY.iter_unpack(
        _entries(directory, name, offset_index.ENTRY_SIZE)
    ):
        yield {"offset": base + relative, "position": position}


def _time_index(directory: Directory, name: str, base: int) -> Iterator[Entry]:
    for timestamp, relative in time_index.ENTRY.iter_unpack(_entries(directory, name, time_index.ENTRY_SIZE)):
        yield {"timestamp": timestamp, "offset": base + relative}


def _entries(directory: Directory, name: str, entry_size: int) -> bytes:
    """The entries before the zeros at the end."""
    data = directory.read(name) or b""

    def read(position: int, length: int) -> bytes:
        return data[position : position + length]

    return data[: entry_size * offset_index.count_entries(read, len(data), entry_size, 0)]


def _snapshot(directory: Directory, name: str, end_offset: int) -> Iterator[Entry]:
    del end_offset
    state = decode_snapshot(directory.read(name) or b"")
    if state is None:
        raise BadFileError(f"{name}: its length or CRC is wrong; the broker rebuilds it from the log")
    for producer_id, producer in sorted(state.producers.items()):
        yield {
            "producer_id": producer_id,
            "producer_epoch": producer.epoch,
            "last_sequence": producer.last_sequence,
            "last_offset": producer.last_offset,
            "last_timestamp": producer.last_timestamp,
            "coordinator_epoch": producer.coordinator_epoch,
            "transaction_start": producer.transaction_start if producer.transaction_start >= 0 else None,
        }


def _leader_epochs(directory: Directory) -> Iterator[Entry]:
    entries = read_leader_epochs(directory)
    if not entries and directory.read(LEADER_EPOCHS) not in (b"", b"0\n0\n"):
        raise BadFileError(f"{LEADER_EPOCHS}: it cannot be read")
    for epoch, start in entries:
        yield {"leader_epoch": epoch, "start_offset": start}


def _offsets(directory: Directory, name: str) -> Iterator[Entry]:
    offsets = read_offsets(directory, name)
    if not offsets and directory.read(name) not in (b"", b"0\n0\n"):
        raise BadFileError(f"{name}: it cannot be read")
    for (topic, partition), offset in sorted(offsets.items()):
        yield {"topic": topic, "partition": partition, "offset": offset}


_SEGMENT_FILES: dict[str, Callable[[Directory, str, int], Iterator[Entry]]] = {
    INDEX_SUFFIX: _index,
    TIME_INDEX_SUFFIX: _time_index,
    SNAPSHOT_SUFFIX: _snapshot,
}
