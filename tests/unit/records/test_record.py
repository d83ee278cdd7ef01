"""Records: our bytes are those of other clients, both ways; what is malformed is a KafkaError."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.errors import KafkaError
from tailrace.core.records.batch import check_batch, parse_header
from tailrace.core.records.compression import GZIP, NONE, ZSTD, compress
from tailrace.core.records.record import (
    NewRecord,
    assemble,
    build_batch,
    iterate_batch,
    iterate_batches,
    read_varint,
    write_varint,
)

CODECS = range(5)
INT64_MAX = 2**63 - 1
BUILDERS = ["kafka.record.default_records", "aiokafka.record.default_records"]
BATCHES = st.lists(
    st.builds(
        NewRecord,
        key=st.none() | st.binary(max_size=40),
        value=st.none() | st.binary(max_size=300),
        timestamp=st.integers(0, 2**42),
        headers=st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=9)), max_size=3).map(
            tuple
        ),
    ),
    min_size=1,
    max_size=20,
)


def plain(batch: bytes | bytearray) -> list[NewRecord]:
    """The records of a batch as they were before they got offsets."""
    return [
        NewRecord(key=each.key, value=each.value, timestamp=each.timestamp, headers=each.headers)
        for each in iterate_batch(batch)
    ]


def varint(value: int) -> bytes:
    """A number as a record holds it."""
    out = bytearray()
    write_varint(out, value)
    return bytes(out)


def forged(body: bytes, *, codec: int = NONE, count: int = 1) -> bytearray:
    """A batch with a sound header and CRC around any bytes."""
    return assemble(
        body, base_offset=0, leader_epoch=0, attributes=codec, last_offset_delta=count - 1,
        base_timestamp=0, max_timestamp=0,
    )  # fmt: skip


@given(BATCHES, st.sampled_from(CODECS))
def test_records_come_back(records: list[NewRecord], codec: int) -> None:
    batch = build_batch(records, base_offset=100, codec=codec)
    header = check_batch(batch)
    assert (header.codec, header.record_count) == (codec, len(records))
    assert header.max_timestamp == max(record.timestamp for record in records)
    assert plain(batch) == records
    assert [record.offset for record in iterate_batch(batch)] == list(range(100, 100 + len(records)))


SAMPLES: Sequence[NewRecord] = [
    NewRecord(key=b"k", value=b"v" * 70_000, timestamp=1_700_000_000_000),
    NewRecord(key=None, value=None, timestamp=1_700_000_000_005, headers=(("a", b"1"), ("b", None))),
    NewRecord(key=b"", value=b"", timestamp=1_699_999_999_999, headers=(("\u00e9", b""),)),
    *(NewRecord(value=b"%d" % i, timestamp=1_700_000_000_000 + i) for i in range(500)),
]


@pytest.mark.parametrize("module", BUILDERS)
@pytest.mark.parametrize("codec", CODECS)
def test_other_clients_batches_are_read(module: str, codec: int) -> None:
    builder: Any = import_module(module).DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, is_transactional=0, producer_id=5, producer_epoch=6, base_sequence=7,
        batch_size=1 << 20,
    )  # fmt: skip
    for offset, record in enumerate(SAMPLES):
        builder.append(offset, record.timestamp, record.key, record.value, list(record.headers))
    batch = bytes(builder.build())
    header = check_batch(batch)
    assert (header.codec, header.record_count) == (codec, len(SAMPLES))
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (5, 6, 7)
    assert plain(batch) == SAMPLES


@pytest.mark.parametrize("module", BUILDERS)
@pytest.mark.parametrize("codec", CODECS)
def test_other_clients_read_our_batches(module: str, codec: int) -> None:
    batch = bytes(build_batch(SAMPLES, base_offset=40, codec=codec))
    reader: Any = import_module(module).DefaultRecordBatch(batch)
    assert reader.validate_crc()
    records: list[Any] = list(reader)
    assert [
        NewRecord(key=r.key, value=r.value, timestamp=r.timestamp, headers=tuple(r.headers)) for r in records
    ] == SAMPLES
    assert [record.offset for record in records] == list(range(40, 40 + len(SAMPLES)))


@pytest.mark.parametrize("module", BUILDERS)
def test_our_uncompressed_bytes_are_theirs(module: str) -> None:
    builder: Any = import_module(module).DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=1 << 20,
    )  # fmt: skip
    for offset, record in enumerate(SAMPLES):
        builder.append(offset, record.timestamp, record.key, record.value, list(record.headers))
    theirs, ours = bytes(builder.build()), bytes(build_batch(SAMPLES))
    assert theirs[:12] == ours[:12]
    assert theirs[16:] == ours[16:]  # the leader's epoch between them is not the client's to say


@given(st.integers(-(2**63), INT64_MAX))
def test_varints_come_back(value: int) -> None:
    coded = varint(value)
    assert len(coded) <= 10
    assert read_varint(b"." + coded + b".", 1, len(coded) + 1) == (value, len(coded) + 1)
    for end in range(len(coded)):
        with pytest.raises(KafkaError):
            read_varint(coded, 0, end)


@pytest.mark.parametrize(
    ("value", "coded"),
    [
        (0, "00"), (-1, "01"), (1, "02"), (63, "7e"), (-64, "7f"), (64, "8001"), (-65, "8101"), (150, "ac02"),
        (2**31 - 1, "feffffff0f"), (-(2**31), "ffffffff0f"), (INT64_MAX, "feffffffffffffffff01"),
        (-(2**63), "ffffffffffffffffff01"),
    ],
)  # fmt: skip
def test_varints_are_zigzag_coded(value: int, coded: str) -> None:
    assert varint(value).hex() == coded


@pytest.mark.parametrize("coded", ["", "80", "ff" * 10 + "01", "ff" * 9 + "02", "80" * 64 + "00"])
def test_varints_without_an_end_or_past_64_bits_are_refused(coded: str) -> None:
    data = bytes.fromhex(coded)
    with pytest.raises(KafkaError):
        read_varint(data, 0, len(data))


RECORD = b"\0" + varint(0) * 2 + varint(-1) * 2 + varint(0)
FAULTS = {
    "nothing": b"",
    "a length of -1": varint(-1) + RECORD,
    "a length of 0": varint(0) + RECORD,
    "a length past the batch": varint(len(RECORD) + 1) + RECORD,
    "a length of 2^62": varint(2**62) + RECORD,
    "a record that ends early": varint(len(RECORD) + 1) + RECORD + b"\0",
    "bytes after the last": varint(len(RECORD)) + RECORD + b"\0",
    "a key past its record": varint(5) + b"\0\0\0" + varint(63) + b"\0",
    "a value of 2^40": varint(11) + b"\0\0\0\1" + varint(2**40) + b"\0",
    "a billion headers": varint(10) + b"\0\0\0\1\1" + varint(10**9),
    "-1 headers": varint(6) + b"\0\0\0\1\1\1",
    "a header without a key": varint(8) + b"\0\0\0\1\1\2\1\1",
}


def test_the_record_under_the_faults_is_sound() -> None:
    assert len(list(iterate_batch(forged(varint(len(RECORD)) + RECORD)))) == 1


@pytest.mark.parametrize(
    ("time_delta", "offset_delta"),
    [(0, -2), (0, INT64_MAX), (INT64_MAX, 0), (0, -INT64_MAX), (-INT64_MAX, 0)],
)
def test_offsets_and_times_beyond_64_bits_are_refused(time_delta: int, offset_delta: int) -> None:
    body = b"\0" + varint(time_delta) + varint(offset_delta) + varint(-1) * 2 + varint(0)
    base_ms = 9 if time_delta >= 0 else -9
    batch = assemble(
        varint(len(body)) + body, base_offset=1, leader_epoch=0, attributes=0, last_offset_delta=0,
        base_timestamp=base_ms, max_timestamp=base_ms,
    )  # fmt: skip
    with pytest.raises(KafkaError):
        list(iterate_batch(batch))


@pytest.mark.parametrize("codec", [NONE, GZIP, ZSTD])
@pytest.mark.parametrize("body", FAULTS.values(), ids=FAULTS)
def test_malformed_records_are_refused(body: bytes, codec: int) -> None:
    with pytest.raises(KafkaError):
        list(iterate_batch(forged(compress(codec, body), codec=codec)))


def test_a_count_of_records_that_are_not_there_costs_nothing() -> None:
    with pytest.raises(KafkaError):
        list(iterate_batch(forged(varint(len(RECORD)) + RECORD, count=2**31 - 1)))


@pytest.mark.parametrize("codec", CODECS)
def test_a_body_cut_anywhere_is_refused(codec: int) -> None:
    batch = build_batch([NewRecord(value=bytes([i]) * 50) for i in range(20)], codec=codec)
    body = bytes(batch[61:])
    for size in range(len(body)):
        with pytest.raises(KafkaError):
            list(iterate_batch(forged(body[:size], codec=codec, count=20)))


@given(st.binary(max_size=200), st.sampled_from(CODECS), st.integers(1, 50))
def test_garbage_is_refused_or_read_but_nothing_else_happens(body: bytes, codec: int, count: int) -> None:
    try:
        list(iterate_batch(forged(body, codec=codec, count=count)))
    except KafkaError:
        return


def test_a_range_ends_at_the_last_whole_batch() -> None:
    first, second = build_batch([NewRecord(value=b"a")]), build_batch([NewRecord(value=b"b")], base_offset=1)
    for cut in (0, 1, 60, len(second) - 1):
        found = [header.base_offset for header, _ in iterate_batches(first + second[:cut])]
        assert found == [0]
    assert [header.base_offset for header, _ in iterate_batches(first + second)] == [0, 1]


@pytest.mark.parametrize("garbage", [bytes(61), b"\xff" * 200])
def test_a_range_with_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(KafkaError):
        list(iterate_batches(build_batch([NewRecord(value=b"a")]) + garbage))


def test_log_append_time_is_every_records_time() -> None:
    batch = build_batch([NewRecord(timestamp=1), NewRecord(timestamp=9)])
    batch[22] |= 8
    assert parse_header(batch).attributes == 8
    assert [record.timestamp for record in iterate_batch(batch)] == [9, 9]
