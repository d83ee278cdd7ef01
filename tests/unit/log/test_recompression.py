"""compression.type other than producer: what is stored has the topic's codec and the same records."""

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tailrace.core.errors import (
    CORRUPT_MESSAGE,
    INVALID_RECORD,
    INVALID_TIMESTAMP,
    MESSAGE_TOO_LARGE,
    OUT_OF_ORDER_SEQUENCE_NUMBER,
    KafkaError,
)
from tailrace.core.log import recompression
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tailrace.core.log.recompression import TARGETS, recompressed, timestamp_deltas
from tailrace.core.records.batch import BatchHeader, check_batch, parse_header
from tailrace.core.records.compression import CODEC_NAMES, NONE, ZSTD
from tailrace.core.records.record import (
    DecodedRecord,
    NewRecord,
    assemble,
    build_batch,
    decode_records,
    encode_record,
    iterate_batch,
)
from tests.support.batches import changed
from tests.unit.log.logs import NOW, open_log

RECORDS = [NewRecord(key=b"k", value=b"value %d" % at * 9, timestamp=NOW + at) for at in range(20)]


def config(target: str, **more: int | str) -> LogConfig:
    """A topic with that compression.type."""
    return LogConfig(segment_bytes=1 << 20, compression_type=target, **more)  # type: ignore[arg-type]


def stored(path: Path, log: Log) -> list[tuple[BatchHeader, list[DecodedRecord]]]:
    """The batches in its files, read back."""
    data = b"".join((path / segment.log_name).read_bytes()[: segment.size] for segment in log.segments)
    found: list[tuple[BatchHeader, list[DecodedRecord]]] = []
    while data:
        header = parse_header(data)
        found.append((header, list(iterate_batch(data[: header.size]))))
        data = data[header.size :]
    return found


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("codec", range(5))
def test_records_of_any_codec_are_stored_in_the_topics(tmp_path: Path, target: str, codec: int) -> None:
    log = open_log(tmp_path, config(target))
    sent = bytes(build_batch(RECORDS, codec=codec, producer_id=7, producer_epoch=2, base_sequence=5))
    for at in range(3):
        following = changed(sent, base_sequence=5 + 20 * at)
        assert log.append_as_leader(memoryview(following), 4, NOW).base_offset == 20 * at
    batches = stored(tmp_path, log)
    assert [(header.codec, header.base_offset, header.leader_epoch) for header, _ in batches] == [
        (TARGETS[target], base, 4) for base in (0, 20, 40)
    ]
    for at, (header, records) in enumerate(batches):
        assert (header.producer_id, header.producer_epoch, header.base_sequence) == (7, 2, 5 + 20 * at)
        assert (header.base_timestamp, header.max_timestamp) == (NOW, NOW + 19)
        assert [(r.key, r.value, r.timestamp) for r in records] == [
            (r.key, r.value, r.timestamp) for r in RECORDS
        ]
    log.close()
    again = open_log(tmp_path, config(target))
    assert again.log_end_offset == 60
    again.close()


def test_a_batch_of_the_topics_codec_stays_as_it_was_sent() -> None:
    sent = build_batch(RECORDS, codec=ZSTD)
    assert recompressed(sent, config("zstd"), NOW, from_client=True) == sent
    assert recompressed(sent, config("lz4"), NOW, from_client=True) != sent


def test_a_refused_batch_is_followed_by_recompressed_ones(tmp_path: Path) -> None:
    log = open_log(tmp_path, config("gzip"))
    unfit = assemble(
        b"\x02\0", base_offset=0, leader_epoch=0, attributes=0, last_offset_delta=0, base_timestamp=NOW,
        max_timestamp=NOW,
    )  # fmt: skip
    for batch, code in (
        (changed(bytes(build_batch(RECORDS)), crc=1), CORRUPT_MESSAGE),
        (bytes(unfit) + bytes(7), INVALID_RECORD),
        (changed(bytes(build_batch(RECORDS)), attributes=2), INVALID_RECORD),
        (bytes(build_batch(RECORDS, producer_id=1, producer_epoch=0, base_sequence=-1)), INVALID_RECORD),
    ):
        with pytest.raises(KafkaError) as caught:
            log.append_as_leader(batch, 0, NOW)
        assert caught.value.code == code
        assert log.append_as_leader(bytes(build_batch(RECORDS)), 0, NOW).last_offset
    assert {header.codec for header, _ in stored(tmp_path, log)} == {1}, "each took the long way"
    log.close()


def test_duplicates_and_gaps_are_found_whatever_the_codec(tmp_path: Path) -> None:
    log = open_log(tmp_path, config("zstd"))
    sent = bytes(build_batch(RECORDS, producer_id=7, producer_epoch=0, base_sequence=0))
    assert log.append_as_leader(sent, 0, NOW).base_offset == 0
    assert log.append_as_leader(sent, 0, NOW).duplicate
    with pytest.raises(KafkaError) as caught:
        log.append_as_leader(changed(sent, base_sequence=30), 0, NOW)
    assert caught.value.code == OUT_OF_ORDER_SEQUENCE_NUMBER
    assert log.log_end_offset == 20
    log.close()


def test_the_largest_batch_counts_before_and_after(tmp_path: Path) -> None:
    zeros = [NewRecord(value=bytes(50_000), timestamp=NOW)]
    noise = [NewRecord(value=Random(1).randbytes(3900), timestamp=NOW)]
    for target, records, codec, code in (
        ("gzip", zeros, NONE, MESSAGE_TOO_LARGE),  # as sent
        ("gzip", zeros, ZSTD, 0),
        ("uncompressed", zeros, ZSTD, MESSAGE_TOO_LARGE),  # as it would be stored
        ("snappy", noise, NONE, 0),
    ):
        log = open_log(tmp_path / f"{target} {codec}", config(target, max_message_bytes=4000))
        batch = bytes(build_batch(records, codec=codec))
        try:
            log.append_as_leader(batch, 0, NOW)
            found = 0
        except KafkaError as error:
            found = error.code
        assert found == code, (target, codec)
        log.close()


def test_what_a_batch_may_become_is_bounded() -> None:
    bomb = build_batch([NewRecord(value=bytes(1 << 20), timestamp=NOW)], codec=ZSTD)
    with pytest.raises(KafkaError) as caught:
        recompressed(bomb, config("gzip", max_decompressed_message_bytes=1 << 19), NOW, from_client=True)
    assert caught.value.code == INVALID_RECORD


def test_every_record_s_time_counts() -> None:
    late = [*RECORDS, NewRecord(timestamp=NOW - 5000), NewRecord(timestamp=NOW)]
    bounds = config("gzip", message_timestamp_before_max_ms=1000)
    with pytest.raises(KafkaError) as caught:
        recompressed(build_batch(late), bounds, NOW, from_client=True)
    assert caught.value.code == INVALID_TIMESTAMP
    recompressed(build_batch(late), bounds, NOW, from_client=False)
    unstamped = [NewRecord(timestamp=-1), NewRecord(timestamp=NOW)]
    found = recompressed(build_batch(unstamped), bounds, NOW, from_client=True)
    assert (parse_header(found).base_timestamp, parse_header(found).max_timestamp) == (-1, NOW)
    with pytest.raises(KafkaError):
        recompressed(build_batch([NewRecord(timestamp=-2)]), config("gzip"), NOW, from_client=True)


@pytest.mark.parametrize("offsets", [(0, 1), (1, 0)])  # in their plainest form or not
@pytest.mark.parametrize(("base", "delta"), [(2**63 - 1, 1), (1000, 2**63 - 1), (-1, 2**63)])
@pytest.mark.parametrize(
    "more", [{"message_timestamp_type": "LogAppendTime"}, {"message_timestamp_after_max_ms": 2**63 - 1}]
)
def test_times_that_no_header_can_hold_are_refused(
    offsets: tuple[int, int], base: int, delta: int, more: dict[str, int | str]
) -> None:
    """(R) Such a batch ended the worker."""
    body = bytearray()
    for offset, time in zip(offsets, (0, delta), strict=True):
        encode_record(body, offset, time, NewRecord(value=b"v"))
    batch = assemble(
        bytes(body), base_offset=0, leader_epoch=0, attributes=0, last_offset_delta=1, base_timestamp=base,
        max_timestamp=base,
    )  # fmt: skip
    with pytest.raises(KafkaError) as caught:
        recompressed(batch, config("gzip", **more), NOW, from_client=True)
    assert caught.value.code in (INVALID_RECORD, INVALID_TIMESTAMP)


def test_the_broker_s_time_replaces_that_of_records(tmp_path: Path) -> None:
    log = open_log(tmp_path, config("lz4", message_timestamp_type="LogAppendTime"))
    sent = bytes(build_batch(RECORDS))
    assert log.append_as_leader(sent, 0, NOW + 77).log_append_time_ms == NOW + 77
    with pytest.raises(KafkaError) as caught:
        log.append_as_leader(changed(sent, attributes=8), 0, NOW)
    assert caught.value.code == INVALID_TIMESTAMP
    ((header, records),) = stored(tmp_path, log)
    assert header.attributes == 8 | 3
    assert {record.timestamp for record in records} == {NOW + 77}
    log.close()


def test_odd_records_are_stored_in_their_plainest_form() -> None:
    """Offsets renumbered, times counted from the first, a claim of the broker's time taken at its word."""
    body = bytearray()
    for offset, time in ((4, 5), (1, 3), (1, 9)):
        encode_record(body, offset, time, NewRecord(value=b"v"))
    batch = assemble(
        bytes(body), base_offset=0, leader_epoch=0, attributes=0xC0, last_offset_delta=2, base_timestamp=NOW,
        max_timestamp=NOW + 1,
    )  # fmt: skip
    found = recompressed(batch, config("gzip"), NOW, from_client=True)
    header = parse_header(found)
    assert (header.base_timestamp, header.max_timestamp, header.attributes) == (NOW + 5, NOW + 9, 1)
    assert [(r.offset, r.timestamp - NOW) for r in iterate_batch(found)] == [(0, 5), (1, 3), (2, 9)]
    claimed = changed(bytes(batch), attributes=8, max_timestamp=NOW + 2)
    again = recompressed(claimed, config("gzip"), NOW, from_client=True)
    assert [r.timestamp - NOW for r in iterate_batch(again)] == [2, 2, 2]


def test_levels_are_those_of_the_topic() -> None:
    text = b" ".join(b"%d is a number, and so is %d" % (at, at * 7919 % 10007) for at in range(3000))
    sent = build_batch([NewRecord(value=text, timestamp=NOW)])

    def size(target: str, level: int) -> int:
        topic = config(target, **{f"compression_{target}_level": level})
        return len(recompressed(sent, topic, NOW, from_client=True))

    assert size("gzip", 1) > size("gzip", 9)
    assert size("gzip", -1) == size("gzip", 6)
    assert size("zstd", -50) > size("zstd", 3) > size("zstd", 19)
    assert size("lz4", 9) > size("lz4", 1) > size("lz4", 12) == size("lz4", 17), (
        "9 is Kafka's fast compressor"
    )


@pytest.mark.parametrize("seed", range(30))
def test_only_records_in_their_plainest_form_are_taken_as_they_are(seed: int) -> None:
    """Held against what decoding and encoding them anew gives, of changed bytes too."""
    random = Random(seed)
    body, count = bytearray(), random.choice((1, 3, 70, 150))
    for number in range(count):
        time = random.choice((0, 1, 70, -1, 9000, 2**40)) if number else 0
        headers = random.choice(((), (), (("", b"1"), ("", None))))  # what is no UTF-8 would be replaced
        key, value = (
            random.choice((None, b"", bytes(70))),
            random.choice((None, bytes(random.randint(0, 9000)))),
        )
        record = NewRecord(key=key, value=value, headers=headers)
        encode_record(body, number, time, record)
    assert timestamp_deltas(bytes(body), count) != (1, 0)
    for _ in range(40):
        data = bytearray(body)
        for _ in range(random.randint(0, 2)):
            data[random.randrange(min(len(data), 300))] = random.choice((0, 1, 2, 3, 0x7F, 0x80, 0x81, 0xFF))
        assert timestamp_deltas(bytes(data), count) == plainest(bytes(data), count)


def plainest(data: bytes, count: int) -> tuple[int, int]:
    """What timestamp_deltas must say, the slow way."""
    header = parse_header(
        assemble(
            b"",
            base_offset=0,
            leader_epoch=0,
            attributes=0,
            last_offset_delta=count - 1,
            base_timestamp=0,
            max_timestamp=0,
        )
    )
    again, times = bytearray(), [0]
    try:
        for number, record in enumerate(decode_records(data, header)):
            plain = NewRecord(key=record.key, value=record.value, headers=record.headers)
            encode_record(again, number, record.timestamp, plain)
            times.append(record.timestamp)
    except KafkaError:
        return 1, 0
    return (min(times), max(times)) if bytes(again) == data and not times[1] else (1, 0)


def test_codec_names_are_kafkas() -> None:
    assert [CODEC_NAMES[codec] for codec in TARGETS.values()] == ["none", "gzip", "snappy", "lz4", "zstd"]


def test_what_is_stored_is_what_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source changes while it is looked at, as a client's memory may."""
    source = build_batch(RECORDS)
    expected = recompressed(source, config("gzip"), NOW, from_client=True)

    def scribble(batch: bytes) -> BatchHeader:
        source[40:] = bytes(len(source) - 40)
        return check_batch(batch)

    monkeypatch.setattr(recompression, "check_batch", scribble)
    assert recompressed(memoryview(source), config("gzip"), NOW, from_client=True) == expected
    assert not any(source[40:])


def test_a_process_loads_only_the_codecs_it_needs() -> None:
    script = """
import sys
from tailrace.core.log.log_config import LogConfig
from tailrace.core.log.recompression import recompressed
from tailrace.core.records.record import NewRecord, build_batch
recompressed(build_batch([NewRecord(value=b"v")]), LogConfig(compression_type="gzip"), 0, from_client=False)
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"zstandard", "lz4", "cramjam", "numpy"} & set(done.stdout.split())
