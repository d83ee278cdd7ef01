"""The records of a batch as columns: where each key and value lies in the plain bytes, and its numbers.

    data     ...|length|attributes|timestamp delta|offset delta|key length|key|value length|value|headers|...
    columns      one number a record: offset delta, timestamp delta, key start, key length, ...

Two passes. The first finds where records begin: a length leads to the next one, and where records are of one
size numpy compares the lengths of thousands at once. The second reads each field of all records in one go,
whatever their sizes. What it finds fault with is read again by the plain decoder, whose word counts: both
take the same batches, and refuse the others with the same errors.

numpy takes longer to import than some 50,000 records to decode, so `RecordReader` reads those plainly; no
process of the broker imports it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct

from tailrace.core.errors import KafkaError
from tailrace.core.records.batch import HEADER_SIZE, LOG_APPEND_TIME, BatchHeader, Buffer, parse_header
from tailrace.core.records.compression import decompress
from tailrace.core.records.record import (
    DECOMPRESSED_BYTES_MAX,
    INT64_MAX,
    INT64_MIN,
    DecodedRecord,
    decode_records,
    read_headers,
    read_varint,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy import int64, uint8
    from numpy.typing import NDArray

    Numbers = NDArray[int64]
    Bytes = NDArray[uint8]

FEW_RECORDS = 64  # a batch of fewer is decoded faster by the plain loop
NUMPY_PAYS = 50_000  # records that the plain loop decodes while numpy is imported
SAME_SIZE = 8  # so many records of one size in a row are the start of a run
WAIT_MAX = 4096  # and so many after guesses that were wrong
ROWS_FIRST, ROWS_FACTOR = 64, 4  # of a run, how many are compared at first, and then
VARINT_SHIFT_MAX = 56  # longer ones are left to the plain decoder
FEW_WITH_HEADERS = 32


class Columns(Struct, kw_only=True, frozen=True):
    """A number a record in each; what they point to is in `data`. A length of -1 is a null."""

    data: bytes
    sizes: Numbers  # of the record with its length
    offset_deltas: Numbers
    timestamp_deltas: Numbers
    key_starts: Numbers
    key_lengths: Numbers
    value_starts: Numbers
    value_lengths: Numbers
    header_starts: Numbers  # of the first header, after their count
    header_counts: Numbers

    def __len__(self) -> int:
        return len(self.sizes)

    def offsets_ascend_to(self, last_delta: int) -> bool:
        """Whether offset deltas ascend from 0 on and none is above `last_delta`."""
        deltas = self.offset_deltas
        if not len(deltas):
            return True
        ascend = bool((deltas[1:] > deltas[:-1]).all())
        return ascend and int(deltas[0]) >= 0 and int(deltas[-1]) <= last_delta

    def records(self, header: BatchHeader) -> Iterator[DecodedRecord]:
        """The same, one after another."""
        data, base_offset, base_timestamp = self.data, header.base_offset, header.base_timestamp
        append_time = header.max_timestamp if header.attributes & LOG_APPEND_TIME else None
        rows = zip(
            self.sizes.tolist(), self.offset_deltas.tolist(), self.timestamp_deltas.tolist(),
            self.key_starts.tolist(), self.key_lengths.tolist(), self.value_starts.tolist(),
            self.value_lengths.tolist(), self.header_starts.tolist(), self.header_counts.tolist(),
            strict=True,
        )  # fmt: skip
        for size, offset, time, key_at, key, value_at, value, headers_at, headers in rows:
            yield DecodedRecord(
                offset=base_offset + offset,
                timestamp=base_timestamp + time if append_time is None else append_time,
                key=None if key < 0 else data[key_at : key_at + key],
                value=None if value < 0 else data[value_at : value_at + value],
                headers=read_headers(data, headers_at, len(data), headers)[0] if headers else (),
                size=size,
            )


class _DoubtfulError(Exception):
    """Something that the plain decoder has to look at."""


def decode_columns(data: bytes, header: BatchHeader) -> Columns | None:
    """The columns of the plain bytes after a header, as `decode_records` would find them, or its KafkaError.
    None for records that are sound and need it: a varint of ten bytes.
    """
    import numpy

    buffer = numpy.frombuffer(data, numpy.uint8)
    try:
        starts, ends = _find_records(data, buffer, header.record_count)
        columns = _read_fields(data, buffer, starts, ends)
        _check_range(columns, header)
    except (_DoubtfulError, IndexError):
        for _ in decode_records(data, header):
            pass
        return None
    return columns


def _find_records(data: bytes, buffer: Bytes, count: int) -> tuple[Numbers, Numbers]:
    """Where each record's fields begin, after its length, and where it ends."""
    import numpy

    size = len(data)
    starts: list[int] = []
    ends: list[int] = []
    found: list[tuple[Numbers, Numbers]] = []
    position = alike = last = 0
    wait = SAME_SIZE
    while count > 0:
        start = position + 1
        length = data[position]
        if length >= 0x80:
            if data[start] < 0x80:
                length, start = length & 0x7F | data[start] << 7, start + 1
            else:
                length, start = _long_varint(data, position)
        if length & 1:
            raise _DoubtfulError
        end = start + (length >> 1)
        if end > size:
            raise _DoubtfulError
        starts.append(start)
        ends.append(end)
        count -= 1
        stride = end - position
        alike = alike + 1 if stride == last else 0
        position, last = end, stride
        if alike < wait:
            continue
        alike = 0
        rows = _run(data, buffer, position, stride, stride - (length >> 1), count)
        wait = SAME_SIZE if rows >= ROWS_FIRST else min(2 * wait, WAIT_MAX)  # the next guess has to be better
        if not rows:
            continue
        at = numpy.arange(rows, dtype=numpy.int64) * stride + position
        found.append((numpy.array(starts, numpy.int64), numpy.array(ends, numpy.int64)))
        found.append((at + (start - end + stride), at + stride))
        starts, ends = [], []
        count -= rows
        position += rows * stride
    if position != size:
        raise _DoubtfulError
    found.append((numpy.array(starts, numpy.int64), numpy.array(ends, numpy.int64)))
    return numpy.concatenate([each[0] for each in found]), numpy.concatenate([each[1] for each in found])


def _long_varint(data: bytes, position: int) -> tuple[int, int]:
    """The zigzag number before it is unfolded, and the place after it."""
    length, end = read_varint(data, position, min(position + 10, len(data)))
    return length << 1 if length >= 0 else 1, end


def _run(data: bytes, buffer: Bytes, position: int, stride: int, width: int, count: int) -> int:
    """How many records from `position` on have the same length as the one before, of `width` bytes."""
    import numpy

    prefix = buffer[position - stride : position - stride + width]
    left = min(count, (len(data) - position) // stride)
    rows, step = 0, ROWS_FIRST
    while left:
        step = min(step, left)
        at = position + rows * stride
        there = buffer[at : at + step * stride].reshape(step, stride)[:, :width] == prefix
        alike = there.all(axis=1)
        if not alike.all():
            return rows + int(numpy.argmin(alike))
        rows, left, step = rows + step, left - step, step * ROWS_FACTOR
    return rows


def _read_fields(data: bytes, buffer: Bytes, starts: Numbers, ends: Numbers) -> Columns:
    """Every field of all records; each field begins where the one before ended."""
    import numpy

    timestamps, at = _varints(buffer, starts + 1, ends)
    offsets, at = _varints(buffer, at, ends)
    keys, key_starts = _varints(buffer, at, ends)
    at = _skip(key_starts, keys, ends)
    values, value_starts = _varints(buffer, at, ends)
    at = _skip(value_starts, values, ends)
    headers, header_starts = _varints(buffer, at, ends)
    if (headers < 0).any():
        raise _DoubtfulError
    at = _skip_headers(data, buffer, header_starts, headers, ends) if headers.any() else header_starts
    if (at != ends).any():
        raise _DoubtfulError
    return Columns(
        data=data, sizes=numpy.diff(ends, prepend=0), offset_deltas=offsets, timestamp_deltas=timestamps,
        key_starts=key_starts, key_lengths=keys.clip(-1), value_starts=value_starts,
        value_lengths=values.clip(-1), header_starts=header_starts, header_counts=headers,
    )  # fmt: skip


def _varints(buffer: Bytes, at: Numbers, ends: Numbers) -> tuple[Numbers, Numbers]:
    """The number at each place, and the places after them."""
    import numpy

    if (at >= ends).any():
        raise _DoubtfulError
    byte = buffer[at]
    number = byte.astype(numpy.int64)
    after = at + 1
    more = (byte >= 0x80).nonzero()[0]
    shift = 7
    if more.size:
        number &= 0x7F
    while more.size:
        place = after[more]
        if shift > VARINT_SHIFT_MAX or (place >= ends[more]).any():
            raise _DoubtfulError
        byte = buffer[place]
        number[more] |= (byte & 0x7F).astype(numpy.int64) << shift
        after[more] = place + 1
        more = more[byte >= 0x80]
        shift += 7
    return (number >> 1) ^ -(number & 1), after


def _skip(at: Numbers, lengths: Numbers, ends: Numbers) -> Numbers:
    """The places behind keys or values of these lengths."""
    if (lengths > ends - at).any():
        raise _DoubtfulError
    after: Numbers = at + lengths.clip(0)
    return after


def _skip_headers(data: bytes, buffer: Bytes, starts: Numbers, counts: Numbers, ends: Numbers) -> Numbers:
    """The places behind the headers: the first header of all records, then the second of those with two."""
    if (counts > ends - starts).any():
        raise _DoubtfulError
    after = starts.copy()
    left, done = counts.nonzero()[0], 0
    while len(left) > FEW_WITH_HEADERS:
        end = ends[left]
        names, at = _varints(buffer, after[left], end)
        if (names < 0).any():
            raise _DoubtfulError
        values, at = _varints(buffer, _skip(at, names, end), end)
        after[left] = _skip(at, values, end)
        done += 1
        left = left[counts[left] > done]
    for record in left.tolist():
        count = int(counts[record]) - done
        after[record] = read_headers(data, int(after[record]), int(ends[record]), count)[1]
    return after


def _check_range(columns: Columns, header: BatchHeader) -> None:
    """The offsets and timestamps are numbers of 64 bits."""
    if not len(columns):
        return
    offsets, times = columns.offset_deltas, columns.timestamp_deltas
    lowest, highest = header.base_offset + int(offsets.min()), header.base_offset + int(offsets.max())
    if lowest < 0 or highest > INT64_MAX:
        raise _DoubtfulError
    if header.attributes & LOG_APPEND_TIME:
        return
    oldest, newest = header.base_timestamp + int(times.min()), header.base_timestamp + int(times.max())
    if oldest < INT64_MIN or newest > INT64_MAX:
        raise _DoubtfulError


class RecordReader:
    """Reads the records of many batches, with numpy once that is worth its import."""

    def __init__(self, *, limit: int = DECOMPRESSED_BYTES_MAX, numpy_pays: int = NUMPY_PAYS) -> None:
        self._limit = limit
        self._plain_left = numpy_pays

    def read(self, batch: Buffer) -> Columns | Iterator[DecodedRecord]:
        """The columns of a whole batch, or its records as `iterate_batch` gives them if there are few, or one
        of them is unsound.
        """
        header = parse_header(batch)
        data = decompress(header.codec, bytes(memoryview(batch)[HEADER_SIZE : header.size]), self._limit)
        if self._is_worth_it(header):
            with suppress(KafkaError):
                columns = decode_columns(data, header)
                if columns is not None:
                    return columns
        return decode_records(data, header)

    def records(self, batch: Buffer) -> Iterator[DecodedRecord]:
        """The records of a whole batch, as `iterate_batch` gives them."""
        found = self.read(batch)
        return found.records(parse_header(batch)) if isinstance(found, Columns) else found

    def _is_worth_it(self, header: BatchHeader) -> bool:
        if header.record_count < FEW_RECORDS:
            return False
        if self._plain_left <= 0:
            return True
        self._plain_left -= header.record_count
        return False
