"""The header of a batch: every field is read where Kafka puts it, and each check refuses what it should."""

from struct import Struct, pack_into

import pytest

from tailrace.core.errors import CORRUPT_MESSAGE, INVALID_RECORD, KafkaError
from tailrace.core.records.batch import (
    CONTROL,
    TRANSACTIONAL,
    check_batch,
    check_stored,
    header_fault,
    next_sequence,
    parse_header,
    stamp,
)
from tailrace.core.records.crc32c import crc32c
from tailrace.core.records.record import NewRecord, assemble, build_batch

INT8, INT16, INT32, INT64 = (Struct(f">{letter}") for letter in "bhiq")


def sound(records: int = 3) -> bytearray:
    """A batch that nobody refuses."""
    return build_batch([NewRecord(value=b"v", timestamp=1000 + i) for i in range(records)], base_offset=7)


def patched(layout: Struct, position: int, value: int, *, sign: bool = True) -> bytearray:
    """A sound batch with one field changed, and its CRC made right again."""
    batch = sound()
    layout.pack_into(batch, position, value)
    if sign:
        pack_into(">I", batch, 17, crc32c(memoryview(batch)[21:]))
    return batch


def refused(batch: bytes | bytearray) -> int:
    """The code a leader refuses it with."""
    with pytest.raises(KafkaError) as caught:
        check_batch(batch)
    return caught.value.code


def test_every_field_is_read_where_kafka_puts_it() -> None:
    batch = assemble(
        b"rest", base_offset=1, leader_epoch=2, attributes=TRANSACTIONAL | CONTROL | 3, last_offset_delta=4,
        base_timestamp=5, max_timestamp=6, producer_id=7, producer_epoch=8, base_sequence=9,
    )  # fmt: skip
    header = parse_header(b"xyz" + batch, 3)
    assert (header.base_offset, header.size, header.leader_epoch, header.magic) == (1, 65, 2, 2)
    assert (header.codec, header.is_transactional, header.is_control) == (3, True, True)
    assert (header.last_offset_delta, header.base_timestamp, header.max_timestamp) == (4, 5, 6)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (7, 8, 9)
    assert (header.record_count, header.last_offset, header.last_sequence) == (5, 5, 13)
    assert header.crc == crc32c(bytes(batch[21:]))


def test_the_crc_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(memoryview(b"..123456789")[2:]) == 0xE3069283


def test_sequences_wrap_to_zero() -> None:
    assert next_sequence(2**31 - 1, 1) == 0
    assert next_sequence(2**31 - 3, 5) == 2
    assert next_sequence(-1, 4) == -1


def test_a_sound_batch_passes_and_a_stamp_leaves_it_sound() -> None:
    batch = sound()
    assert check_batch(batch).record_count == 3
    stamp(batch, 2**40, 9)
    header = check_batch(batch)
    assert (header.base_offset, header.leader_epoch) == (2**40, 9)
    assert check_stored(memoryview(batch), header) == ""


@pytest.mark.parametrize("size", [0, 1, 17, 60])
def test_a_header_cut_short_is_corrupt(size: int) -> None:
    assert refused(sound()[:size]) == CORRUPT_MESSAGE


@pytest.mark.parametrize("length", [-1, 0, -(2**31), 2**31 - 1, 48, 49])
def test_a_length_that_is_not_the_batches_is_refused(length: int) -> None:
    assert refused(patched(INT32, 8, length, sign=False)) == INVALID_RECORD


def test_two_batches_or_a_cut_one_are_refused() -> None:
    assert refused(sound() + sound()) == INVALID_RECORD
    assert refused(sound()[:-1]) == INVALID_RECORD


@pytest.mark.parametrize(
    ("layout", "position", "value"),
    [
        *((INT8, 16, magic) for magic in (-1, 0, 1, 3)),
        *((INT16, 21, codec) for codec in (5, 6, 7)),
        *((INT32, 23, delta) for delta in (-1, 0, 3, 2**31 - 1, -(2**31))),
        *((INT32, 57, count) for count in (-1, 0, 2, 4, 2**31 - 1)),
    ],
)
def test_a_field_out_of_its_bounds_is_refused(layout: Struct, position: int, value: int) -> None:
    assert refused(patched(layout, position, value)) == INVALID_RECORD


@pytest.mark.parametrize("position", range(17, len(sound())))
def test_each_byte_from_the_crc_on_is_covered(position: int) -> None:
    batch = sound()
    batch[position] ^= 0x80
    header = parse_header(batch)
    fault = header_fault(header.magic, header.attributes, header.last_offset_delta, header.record_count)
    assert refused(batch) == (INVALID_RECORD if fault else CORRUPT_MESSAGE)
    assert check_stored(memoryview(batch), header) != ""


@pytest.mark.parametrize(
    ("layout", "position", "value"),
    [(INT8, 16, 1), (INT32, 8, 5), (INT64, 0, -1), (INT32, 23, -1), (INT32, 57, -1), (INT32, 57, 4)],
)
def test_recovery_refuses_what_no_log_holds(layout: Struct, position: int, value: int) -> None:
    batch = patched(layout, position, value)
    assert check_stored(memoryview(batch), parse_header(batch)) != ""


def test_a_log_may_hold_a_batch_that_lost_records() -> None:
    """Compaction takes records out and leaves the offsets: sound in a log, refused from a client."""
    batch = patched(INT32, 57, 1)
    assert check_stored(memoryview(batch), parse_header(batch)) == ""
    assert refused(batch) == INVALID_RECORD
