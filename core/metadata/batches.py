"""Metadata records as record batches: one Kafka record each, values as `core.metadata.records` encodes
them.
"""

from collections.abc import Sequence

from tailrace.core.metadata.records import Record, decode_record, encode_record
from tailrace.core.records.batch import CONTROL, Buffer, parse_header
from tailrace.core.records.record import NewRecord, build_batch, iterate_batch


def batch_of(records: Sequence[Record], now_ms: int) -> bytes:
    """One batch: its records are replayed together or not at all."""
    return bytes(build_batch(NewRecord(value=encode_record(record), timestamp=now_ms) for record in records))


def records_of(batch: Buffer) -> list[Record]:
    """The records of one whole batch; the quorum's own tell nothing here."""
    if parse_header(batch).attributes & CONTROL:
        return []
    return [decode_record(record.value) for record in iterate_batch(batch) if record.value is not None]
