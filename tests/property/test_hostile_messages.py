"""Damaged messages of every kind, version and direction: decoded or refused by ProtocolError, at little cost.

TAILRACE_HOSTILE_CASES says how many, TAILRACE_HOSTILE_SEED repeats a run; a failure prints the command.
"""

import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Any, NamedTuple

import pytest
from msgspec import Struct

from tailrace.core.errors import KafkaError, ProtocolError
from tailrace.core.protocol.apis import APIS
from tailrace.core.protocol.compile import decode, decoder, encode
from tailrace.core.protocol.frames import parse_request_header, parse_response_header
from tailrace.core.protocol.messages.produce import ProduceRequest, decode_produce
from tests.support.hostile import Drafted, damaged, varint
from tests.support.messages import all_messages

CASES = int(os.environ.get("TAILRACE_HOSTILE_CASES", "200000"))
SEED = int(os.environ.get("TAILRACE_HOSTILE_SEED", "1"))
PARTS = 8  # of the run, so that two processes can share it
A_DRAFT = 20  # damaged forms of one draft
TRACED = 50  # of so many cases one is decoded under tracemalloc
SMALL_BYTES = 64 << 10  # larger ones may take their time: the slowest of these is reported
CASE_BYTES_MAX = 1 << 20  # that a decoding may hold beyond what its entries take
MESSAGES = all_messages()

Decode = Callable[[bytes], object]


class Slowest(NamedTuple):
    """The case that took longest: reported, not judged."""

    seconds: float = 0.0
    what: str = ""


def drafts(part: int) -> Iterator[tuple[type[Struct], int, Random, int]]:
    """The message, version, randomness and number of cases of each draft of a part."""
    wanted = -(-CASES // (PARTS * A_DRAFT))
    order = Random(SEED * PARTS + part)
    everything = MESSAGES[part::PARTS]
    for number in range(wanted):
        cls, version = everything[number % len(everything)]
        yield cls, version, Random(order.randrange(2**62)), A_DRAFT


def decoders_of(cls: type[Struct], version: int) -> list[Decode]:
    """All that decodes such a body."""
    function = decoder(cls, version)
    found: list[Decode] = [lambda body: function(body, 0, len(body), memoryview(body))]
    if cls is ProduceRequest:
        found.append(lambda body: decode_produce(body, 0, len(body), version))
    return found


def refuses_or_decodes(call: Decode, body: bytes) -> object:
    """What was decoded, None if it was refused as it should be."""
    try:
        return call(body)
    except ProtocolError:
        return None


def traced_peak(call: Decode, body: bytes) -> int:
    """Bytes that a decoding holds at its worst."""
    tracemalloc.start()
    try:
        refuses_or_decodes(call, body)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_messages_are_decoded_or_refused(
    part: int, record_property: Callable[[str, object], None]
) -> None:
    slowest, case = Slowest(), 0
    for cls, version, random, count in drafts(part):
        draft = Drafted(cls, version, random)
        for _ in range(count):
            body, case = damaged(draft, random), case + 1
            for call in decoders_of(cls, version):
                what = f"{cls.__name__} version {version}, {len(body)} bytes"
                try:
                    started = time.thread_time()
                    refuses_or_decodes(call, body)
                    took = time.thread_time() - started
                    if case % TRACED == 0:
                        assert traced_peak(call, body) < CASE_BYTES_MAX + 100 * len(body)
                except Exception as error:
                    raise AssertionError(
                        f"{what}: {error!r}: {body.hex()[:4000]}\n{command(part)}"
                    ) from error
                if took > slowest.seconds and len(body) <= SMALL_BYTES:
                    slowest = Slowest(took, what)
    record_property("slowest decoding", f"{slowest.seconds * 1000:.2f} ms: {slowest.what}")
    print(f"{case} cases, the slowest {slowest.seconds * 1000:.2f} ms: {slowest.what}")


def command(part: int) -> str:
    """What repeats the failure."""
    test = f"'tests/property/test_hostile_messages.py::test_damaged_messages_are_decoded_or_refused[{part}]'"
    return f"TAILRACE_HOSTILE_SEED={SEED} TAILRACE_HOSTILE_CASES={CASES} .venv/bin/python -m pytest -x {test}"


def test_sound_drafts_are_decoded_and_encoded_to_the_same_message() -> None:
    """The walk that writes them and the decoders, each generated from the declarations, agree."""
    for cls, version in MESSAGES:
        for seed in range(3):
            draft = Drafted(cls, version, Random(seed))
            found = decode(cls, version, bytes(draft.body))
            again = decode(cls, version, encode(found, version))
            assert again == found or "nan" in repr(found), f"{cls.__name__} version {version}, seed {seed}"


def test_what_decodes_can_be_encoded_again() -> None:
    """Or is refused by an error of ours: handlers send much of a request back."""
    random = Random(SEED)
    for cls, version in MESSAGES:
        draft = Drafted(cls, version, random)
        for _ in range(3):
            body = damaged(draft, random)
            found: Any = refuses_or_decodes(partial(decode, cls, version), body)
            if found is not None:
                try:
                    encode(found, version)
                except (ProtocolError, KafkaError) as error:
                    raise AssertionError(f"{cls.__name__} version {version}: {body.hex()[:2000]}") from error


def test_damaged_headers_are_parsed_or_refused() -> None:
    random = Random(SEED)
    for _ in range(5000):
        key = random.choice((*APIS, -1, 4, 999))
        name = random.choice(
            (b"\xff\xff", b"\0\0", b"\0\x03abc", b"\0\x02\xff\xfe", b"\xff\xfe", b"\x7f\xff")
        )
        tags = random.choice(
            (b"\0", b"\x01\x63\x01a", b"\x7f", b"\x80\x01", varint(2**32 - 1), b"\x02\0\0\0\0")
        )
        version = random.choice((0, 1, 3, 9, 13, -1, 2**15 - 1))
        head = bytearray(
            key.to_bytes(2, signed=True) + version.to_bytes(2, signed=True) + bytes(4) + name + tags
        )
        for _ in range(random.choice((0, 1, 3))):
            head[random.randrange(len(head))] = random.randrange(256)
        body = bytes(head[: random.choice((len(head), random.randrange(len(head) + 1)))])
        refuses_or_decodes(lambda data: parse_request_header(data, 0, len(data)), body)
        refuses_or_decodes(lambda data: parse_response_header(data, 0, len(data), 1), body)
