"""Every message in every version: round trips, and bytes that are no message."""

import sys
import tracemalloc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from mmap import mmap
from random import Random
from types import FrameType
from typing import Any

import pytest
from msgspec import Struct

from tailrace.core.errors import ProtocolError
from tailrace.core.protocol.compile import decode, decoder, encode, encoder
from tailrace.core.protocol.messages.produce import (
    ProduceRequest,
    ProduceRequestPartition,
    ProduceRequestTopic,
    ProduceResponse,
    ProduceResponsePartition,
    ProduceResponseTopic,
    decode_produce,
    encode_appended,
)
from tailrace.core.protocol.schema import FACTS
from tests.support.messages import all_messages, random_message, version_id

MESSAGES = all_messages()
ARENA_SIZE = 1 << 20
HUGE = (
    b"\xff\xff\xff\xff\x07",
    b"\xff\xff\xff\xff\x0f",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\x7f\xff",
)

every_message = pytest.mark.parametrize(("cls", "version"), MESSAGES, ids=version_id)


@contextmanager
def arena(filling: int) -> Generator[mmap, None, None]:
    """A large buffer with other data all over it, as the gateway decodes from."""
    with mmap(-1, ARENA_SIZE) as buffer:
        buffer[:] = bytes((filling,)) * ARENA_SIZE
        yield buffer


def lines_run(call: Callable[..., object], *arguments: object) -> int:
    """How many lines of Python a decoding runs: its work, without a clock."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        refuses_or_decodes(call, *arguments)
    finally:
        sys.settrace(before)
    return count


def refuses_or_decodes(call: Callable[..., object], *arguments: object) -> None:
    """Whatever the bytes are, the only error is ProtocolError."""
    try:
        call(*arguments)
    except ProtocolError:
        return


@every_message
def test_what_was_encoded_decodes_to_the_same(cls: type[Struct], version: int) -> None:
    for seed in range(20):
        message = random_message(cls, version, Random(seed))
        data = encode(message, version)
        assert decode(cls, version, data) == message, f"seed {seed}"
        assert encode(decode(cls, version, data), version) == data, f"seed {seed}"


@every_message
def test_decodes_the_same_from_the_middle_of_a_mapping(cls: type[Struct], version: int) -> None:
    message = random_message(cls, version, Random(1))
    data = encode(message, version)
    with arena(255) as buffer:
        buffer[777 : 777 + len(data)] = data
        with memoryview(buffer) as view:
            decoded = decoder(cls, version)(buffer, 777, 777 + len(data), view)
            again = encode(decoded, version)
            del decoded
        assert again == data


@every_message
def test_ignores_bytes_after_the_message(cls: type[Struct], version: int) -> None:
    """As Kafka 4.3 does."""
    message = random_message(cls, version, Random(2))
    assert decode(cls, version, encode(message, version) + b"more") == message


@every_message
@pytest.mark.parametrize("filling", [0, 1, 255])
def test_refuses_a_message_that_is_cut_off(cls: type[Struct], version: int, filling: int) -> None:
    """(R) What lies behind `end` must not complete a message."""
    data = encode(random_message(cls, version, Random(3)), version)
    function = decoder(cls, version)
    cuts = sorted({*range(min(len(data), 400)), *range(0, len(data), 997), len(data) - 1} - {-1, len(data)})
    with arena(filling) as buffer, memoryview(buffer) as view:
        buffer[: len(data)] = data
        for cut in cuts:
            with pytest.raises(ProtocolError):
                function(data[:cut], 0, cut, memoryview(data)[:cut])
            with pytest.raises(ProtocolError):
                function(buffer, 0, cut, view)


@every_message
def test_flipped_bytes_are_refused_or_decoded(cls: type[Struct], version: int) -> None:
    random = Random(4)
    data = encode(random_message(cls, version, random), version)
    function = decoder(cls, version)
    for _ in range(200):
        broken = bytearray(data)
        for _ in range(random.randint(1, 3)):
            if broken:
                broken[random.randrange(min(len(broken), 500))] = random.randrange(256)
        body = bytes(broken)
        refuses_or_decodes(function, body, 0, len(body), memoryview(body))


@every_message
def test_a_huge_count_costs_little_work_and_memory(cls: type[Struct], version: int) -> None:
    """(R) A claimed length or count is compared with what is left before anything is done about it."""
    data = encode(random_message(cls, version, Random(5)), version)[:300]
    function = decoder(cls, version)
    with arena(1) as buffer, memoryview(buffer) as view:
        for place in range(0, len(data), 1 if len(data) < 60 else 7):
            for count in HUGE:
                body = data[:place] + count + data[place + len(count) :]
                end = len(body)
                buffer[:end] = body
                work = lines_run(function, buffer, 0, end, view)
                assert work < 40 * end + 400


@every_message
def test_a_huge_count_allocates_little(cls: type[Struct], version: int) -> None:
    """(R) No list, string or bytes object is made on the word of a count alone."""
    data = encode(random_message(cls, version, Random(6)), version)[:300]
    function = decoder(cls, version)
    with arena(1) as buffer, memoryview(buffer) as view:
        tracemalloc.start()
        try:
            for place in range(0, len(data), 1 if len(data) < 60 else 5):
                for count in HUGE:
                    body = data[:place] + count + data[place + len(count) :]
                    end = len(body)
                    buffer[:end] = body
                    refuses_or_decodes(function, buffer, 0, end, view)
            assert tracemalloc.get_traced_memory()[1] < 256 * 1024
        finally:
            tracemalloc.stop()


PRODUCE_VERSIONS = range(FACTS[ProduceRequest].first, FACTS[ProduceRequest].last + 1)


def walked(buffer: bytes, end: int, version: int) -> ProduceRequest:
    """A Produce request rebuilt from the places that decode_produce finds."""
    transactional_id, acks, timeout_ms, topics = decode_produce(buffer, 0, end, version)
    return ProduceRequest(
        transactional_id,
        acks,
        timeout_ms,
        [
            ProduceRequestTopic(
                name or "",
                topic_id or bytes(16),
                [
                    ProduceRequestPartition(index, None if size < 0 else buffer[place : place + size])
                    for index, place, size in partitions
                ],
            )
            for name, topic_id, partitions in topics
        ],
    )


@pytest.mark.parametrize("version", PRODUCE_VERSIONS)
def test_the_walk_of_a_produce_request_agrees_with_its_decoder(version: int) -> None:
    random = Random(7)
    for _ in range(300):
        data = bytearray(encode(random_message(ProduceRequest, version, random), version))
        for _ in range(random.choice((0, 0, 1, 2))):
            data[random.randrange(min(len(data), 200))] = random.choice((0, 1, 255, random.randrange(256)))
        body = bytes(data[: random.choice((len(data), random.randrange(len(data))))])
        try:
            expected = decode(ProduceRequest, version, body)
        except ProtocolError:
            with pytest.raises(ProtocolError):
                decode_produce(body, 0, len(body), version)
        else:
            assert walked(body, len(body), version) == expected


@pytest.mark.parametrize("version", PRODUCE_VERSIONS)
def test_the_walk_of_a_produce_request_stays_inside_its_frame(version: int) -> None:
    data = encode(random_message(ProduceRequest, version, Random(8)), version)
    with arena(0) as buffer:
        buffer[: len(data)] = data
        for cut in range(0, len(data), 1 if len(data) < 500 else 97):
            with pytest.raises(ProtocolError):
                decode_produce(buffer, 0, cut, version)
        for place in range(min(len(data), 200)):
            for count in HUGE:
                buffer[: len(data)] = data
                buffer[place : place + len(count)] = count
                end = len(data)
                work = lines_run(decode_produce, buffer, 0, end, version)
                assert work < 40 * end + 400


@every_message
def test_records_are_not_copied(cls: type[Struct], version: int) -> None:
    """Records leave as the object that was given, and arrive as a view of the buffer."""
    message = random_message(cls, version, Random(9))
    pieces = encoder(cls, version)(message)
    for piece in pieces:
        assert isinstance(piece, bytearray) or any(piece is each for each in _records(message))


def _records(message: Any) -> list[bytes]:
    topics: list[Any] = getattr(message, "topic_data", None) or getattr(message, "responses", None) or []
    parts: list[Any] = []
    for topic in topics:
        parts += getattr(topic, "partition_data", None) or getattr(topic, "partitions", None) or []
    parts = [part for part in parts if hasattr(part, "records")]
    return [part.records for part in parts if part.records is not None]


@pytest.mark.parametrize("version", range(3, 14))
def test_the_answer_to_a_produce_that_succeeded_is_what_its_encoder_writes(version: int) -> None:
    random = Random(version)
    for topic_count in (0, 1, 2, 3, 130):
        topics = [
            ProduceResponseTopic(
                "" if version >= 13 else "é" * random.choice((1, 3, 70)),
                random.randbytes(16) if version >= 13 else bytes(16),
                [
                    ProduceResponsePartition(
                        random.randrange(1 << 31),
                        base_offset=random.randrange(-1, 1 << 63),
                        log_append_time_ms=random.choice((-1, 1_700_000_000_000)) if version >= 2 else -1,
                        log_start_offset=random.randrange(1 << 63) if version >= 5 else -1,
                    )
                    for _ in range(random.choice((1, 2, 200)))
                ],
            )
            for _ in range(topic_count)
        ]
        assert encode_appended(topics, version) == encode(ProduceResponse(topics), version)
