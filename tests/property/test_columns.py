"""Columns and the plain decoder agree on every input: the same records, or the same error."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.errors import KafkaError
from tailrace.core.records.batch import LOG_APPEND_TIME, BatchHeader, parse_header
from tailrace.core.records.columns import FEW_RECORDS, Columns, RecordReader, decode_columns
from tailrace.core.records.record import (
    DecodedRecord,
    NewRecord,
    assemble,
    build_batch,
    decode_records,
    encode_record,
    iterate_batch,
)

Found = tuple[list[DecodedRecord], int, str]


def plainly(data: bytes, header: BatchHeader) -> Found:
    """What the plain decoder says: records, or the code and words of its error."""
    try:
        return list(decode_records(data, header)), 0, ""
    except KafkaError as error:
        return [], error.code, error.message


def by_columns(data: bytes, header: BatchHeader) -> Found:
    """What the columns say."""
    try:
        columns = decode_columns(data, header)
    except KafkaError as error:
        return [], error.code, error.message
    return plainly(data, header) if columns is None else (list(columns.records(header)), 0, "")


def header_of(
    count: int, *, base_offset: int = 0, base_timestamp: int = 0, attributes: int = 0
) -> BatchHeader:
    """A header with that many records."""
    batch = assemble(
        b"", base_offset=base_offset, leader_epoch=0, attributes=attributes, last_offset_delta=count - 1,
        base_timestamp=base_timestamp, max_timestamp=7,
    )  # fmt: skip
    return parse_header(batch)


def encoded(records: list[tuple[int, int, NewRecord]]) -> bytes:
    """Records with their offset and timestamp deltas."""
    out = bytearray()
    for offset, time, record in records:
        encode_record(out, offset, time, record)
    return bytes(out)


SMALL_BYTES = st.none() | st.binary(max_size=6) | st.sampled_from([bytes(63), bytes(64), bytes(8192)])
RECORD = st.builds(
    NewRecord,
    key=SMALL_BYTES,
    value=SMALL_BYTES,
    headers=st.lists(st.tuples(st.sampled_from(["", "a", "trace-id", "é"]), SMALL_BYTES), max_size=3).map(
        tuple
    ),
)
DELTA = st.integers(-70, 70) | st.sampled_from([8191, 8192, -8193, 2**20, 2**31, -(2**40), 2**62 - 1])
RECORDS = st.lists(st.tuples(st.integers(0, 20_000) | DELTA, DELTA, RECORD), min_size=1, max_size=60)


@given(records=RECORDS, base_offset=st.sampled_from([0, 5, 2**40]), append_time=st.booleans())
def test_any_records_are_read_alike(
    records: list[tuple[int, int, NewRecord]], base_offset: int, append_time: bool
) -> None:
    attributes = LOG_APPEND_TIME if append_time else 0
    header = header_of(len(records), base_offset=base_offset, base_timestamp=9, attributes=attributes)
    data = encoded(records)
    assert by_columns(data, header) == plainly(data, header)


def shaped(random: Random) -> tuple[bytes, int]:
    """Records in runs of one shape and runs of many, as producers make them and as they do not."""
    records: list[tuple[int, int, NewRecord]] = []
    time = 0
    for _ in range(random.randint(1, 5)):
        key = random.choice((None, b"", b"k" * random.randint(1, 70)))
        value = random.choice((None, b"", b"v" * random.randint(1, 200)))
        headers = random.choice(((), (), (("h", b"1"),), (("h", None), ("", b"x" * 70))))
        varies = random.random() < 0.3
        for _ in range(random.choice((1, 3, 40, 150))):
            time += random.choice((0, 1, 1, -3, 100))
            if varies:
                value = bytes(random.randint(0, 100))
            records.append((len(records), time, NewRecord(key=key, value=value, headers=headers)))
    return encoded(records), len(records)


@pytest.mark.parametrize("seed", range(40))
def test_runs_are_read_alike_also_when_bytes_are_changed_cut_or_added(seed: int) -> None:
    random = Random(seed)
    data, count = shaped(random)
    header = header_of(count, base_timestamp=1_700_000_000_000)
    expected = plainly(data, header)
    assert len(expected[0]) == count
    assert by_columns(data, header) == expected
    refused = 0
    for _ in range(25):
        changed = bytearray(data)
        match random.randrange(5):
            case 0:
                changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
            case 1:
                for _ in range(random.randint(1, 9)):
                    changed[random.randrange(len(data))] = random.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del changed[random.randrange(len(data)) :]
            case 3:
                at = random.randrange(len(data))
                changed[at : at + random.randint(0, 3)] = random.randbytes(random.randint(0, 3))
            case _:
                header = header_of(max(1, count + random.randint(-2, 2)), base_timestamp=1_700_000_000_000)
        found = plainly(bytes(changed), header)
        refused += not found[0]
        assert by_columns(bytes(changed), header) == found
    assert refused


def test_what_only_the_plain_decoder_reads_is_left_to_it() -> None:
    widest = encoded([(at, -(2**63), NewRecord()) for at in range(3)])
    header = header_of(3, base_timestamp=2**62)
    assert len(plainly(widest, header)[0]) == 3
    assert decode_columns(widest, header) is None
    assert by_columns(widest, header_of(3, base_timestamp=-1))[0] == []


def test_columns_point_into_the_bytes_they_were_given() -> None:
    records = [NewRecord(key=b"key%d" % at, value=b"v" * at, timestamp=5 + at) for at in range(100)]
    batch = build_batch(records, base_offset=50)
    columns = RecordReader(numpy_pays=0).read(batch)
    assert isinstance(columns, Columns)
    assert len(columns) == 100
    assert columns.offset_deltas.tolist() == list(range(100))
    assert columns.timestamp_deltas.tolist() == list(range(100))
    for at in range(100):
        start, length = int(columns.key_starts[at]), int(columns.key_lengths[at])
        assert columns.data[start : start + length] == b"key%d" % at
        assert columns.value_lengths[at] == at


@pytest.mark.parametrize("codec", range(5))
def test_a_reader_gives_what_the_plain_one_gives_before_and_after_numpy_pays(codec: int) -> None:
    records = [NewRecord(key=b"k", value=b"%d" % at, timestamp=at) for at in range(FEW_RECORDS)]
    batch = bytes(build_batch(records, base_offset=9, codec=codec))
    reader = RecordReader(numpy_pays=FEW_RECORDS + 1)
    expected = list(iterate_batch(batch))
    assert [list(reader.records(batch)) for _ in range(4)] == [expected] * 4
    assert isinstance(reader.read(batch), Columns)


def test_a_reader_gives_the_records_before_a_fault_and_then_its_error() -> None:
    whole = encoded([(at, 0, NewRecord(value=b"v" * 9)) for at in range(100)])
    batch = assemble(
        whole[:-1], base_offset=0, leader_epoch=0, attributes=0, last_offset_delta=99, base_timestamp=0,
        max_timestamp=0,
    )  # fmt: skip
    found = RecordReader(numpy_pays=0).records(batch)
    assert [next(found).offset for _ in range(99)] == list(range(99))
    with pytest.raises(KafkaError):
        next(found)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True), st.booleans())
def test_offsets_ascend_where_the_plain_loop_finds_no_fault(deltas: list[int], is_sorted: bool) -> None:
    deltas = sorted(deltas) if is_sorted else deltas
    columns = decode_columns(encoded([(at, 0, NewRecord()) for at in deltas]), header_of(len(deltas)))
    assert columns is not None
    ascend = deltas == sorted(deltas) and deltas[-1] <= 7
    assert columns.offsets_ascend_to(7) == ascend
