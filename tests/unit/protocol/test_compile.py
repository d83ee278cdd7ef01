"""What the generators make of a declaration: known bytes, nulls, tags, refusals, the text itself."""

import traceback
from mmap import mmap
from typing import Annotated, Any

import pytest
from msgspec import Struct, field

from tailrace.core.errors import UNSUPPORTED_VERSION, KafkaError, ProtocolError
from tailrace.core.protocol.compile import decode, decoder, encode, encoder, source_of
from tailrace.core.protocol.messages.current_leader import CurrentLeader
from tailrace.core.protocol.messages.fetch import (
    FetchRequest,
    FetchResponse,
    FetchResponseDivergingEpoch,
    FetchResponsePartition,
    FetchResponseTopic,
)
from tailrace.core.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tailrace.core.protocol.messages.produce import (
    ProduceRequest,
    ProduceRequestPartition,
    ProduceRequestTopic,
)
from tailrace.core.protocol.schema import (
    IGNORABLE,
    Bytes,
    Float64,
    Int8,
    Int16,
    Int32,
    NullableBytes,
    String,
    Uint16,
    fields_of,
    message,
    nullable,
    since,
    tag,
    upto,
)


class Part(Struct, gc=False):
    """A part whose field names are those of the generated code's own locals."""

    p: Int32 = 0
    end: String = ""


@message(versions=(0, 3), flexible=2)
class Sample(Struct, gc=False):
    """All that the ten APIs do not use yet."""

    m: Uint16 = 0
    out: Float64 = 0.0
    b: Bytes = b""
    view: Annotated[NullableBytes, nullable(1)] = b""
    q: Part = field(default_factory=Part)
    n: Part | None = None
    old: Annotated[Int8, upto(1)] = 0
    dropped: Annotated[Int8, upto(1), IGNORABLE] = 7
    pieces: Annotated[list[String] | None, since(1), IGNORABLE] = None
    error: Annotated[list[Int16], since(2), IGNORABLE] = []
    late: Annotated[Part, since(3), IGNORABLE] = field(default_factory=Part)
    tagged: Annotated[Part | None, since(2), tag(3), IGNORABLE] = None
    more: Annotated[list[Part], since(2), tag(200), IGNORABLE] = []


FULL = Sample(
    *(65535, 0.5, b"ab", None, Part(1, "x"), Part(2, "y"), 0, 7, ["a"], [5], Part()),
    tagged=Part(3, "z"),
    more=[Part(4, "w")],
)


def test_every_wire_type_has_its_bytes() -> None:
    assert encode(FULL, 2) == bytes.fromhex(
        "ffff 3fe0000000000000"  # m, out
        "03 6162 00"  # b, view null
        "00000001 02 78 00"  # q and its tags
        "01 00000002 02 79 00"  # n, which is there
        "02 02 61 02 0005"  # pieces, error
        "02 03 07 00000003 02 7a 00"  # two tags: 3,
        "c801 08 02 00000004 02 77 00".replace(" ", "")  # and 200, whose number takes two bytes
    )
    assert decode(Sample, 2, encode(FULL, 2)) == FULL


@message(versions=(0, 1), flexible=1)
class Marked(Struct, gc=False):
    """Tagged fields that may be null, which is not their default."""

    part: Annotated[Part | None, since(1), tag(0), nullable(1), IGNORABLE] = field(default_factory=Part)
    many: Annotated[list[Int32] | None, since(1), tag(1)] = []


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (Marked(), "00"),
        (Marked(None), "01 00 01 00"),
        (Marked(Part(1)), "01 00 07 01 00000001 01 00"),
        (Marked(many=None), "01 01 01 00"),
        (Marked(many=[2]), "01 01 05 02 00000002"),
    ],
)
def test_null_in_a_tagged_field_is_not_absence(value: Marked, data: str) -> None:
    assert encode(value, 1) == bytes.fromhex(data)
    assert decode(Marked, 1, bytes.fromhex(data)) == value


def test_null_is_refused_where_the_default_is_empty() -> None:
    with pytest.raises(KafkaError):
        encode(Marked(many=None), 0)
    assert encode(Marked(None), 0) == b""


def test_a_classic_version_has_wide_lengths_and_no_tags() -> None:
    sample = Sample(1, 0.0, b"a", b"", Part(1, "x"), None, 9)
    data = bytes.fromhex("0001 0000000000000000 00000001 61 00000000 00000001 0001 78 ff 09 07")
    assert encode(sample, 0) == data
    assert decode(Sample, 0, data) == sample


def test_a_field_outside_the_version_is_its_default() -> None:
    read = decode(Sample, 2, encode(FULL, 2))
    assert (read.old, read.dropped) == (0, 7)


@pytest.mark.parametrize("version", [2, 3])
def test_a_value_that_the_version_cannot_carry_is_refused(version: int) -> None:
    with pytest.raises(KafkaError, match=r"Sample\.old") as caught:
        encode(Sample(old=1), version)
    assert caught.value.code == UNSUPPORTED_VERSION


def test_an_ignorable_value_that_the_version_cannot_carry_is_dropped() -> None:
    assert decode(Sample, 0, encode(FULL_WITHOUT_NULL, 0)).pieces is None
    assert decode(Sample, 2, encode(Sample(dropped=99), 2)).dropped == 7


FULL_WITHOUT_NULL = Sample(pieces=["a"])


@pytest.mark.parametrize(
    "sample",
    [
        Sample(view=None),  # not yet nullable
        Sample(m=65536),
        Sample(m="text"),  # type: ignore[arg-type]
        Sample(q=None),  # type: ignore[arg-type]
        Sample(q=Part(0, "\ud800")),
        Sample(q=Part(0, "x" * 32768)),
    ],
    ids=["null", "range", "type", "struct", "surrogate", "long"],
)
def test_what_the_wire_cannot_hold_is_refused(sample: Sample) -> None:
    with pytest.raises(ProtocolError, match="cannot encode Sample version 0"):
        encode(sample, 0)


def test_no_version_has_longer_strings_than_the_first() -> None:
    longest = MetadataRequest([MetadataRequestTopic(name="x" * 32_767)])
    assert decode(MetadataRequest, 12, encode(longest, 12)) == longest
    longer = encode(MetadataRequest([MetadataRequestTopic(name="x" * 32_768)]), 12)
    with pytest.raises(ProtocolError, match="name is a string of 32768 bytes"):
        decode(MetadataRequest, 12, longer)


def test_unknown_tags_are_skipped_and_known_ones_end_where_their_size_says() -> None:
    body = encode(Sample(), 2)
    assert body[-1] == 0
    assert decode(Sample, 2, body[:-1] + bytes.fromhex("02 01 03 aabbcc 63 00")) == Sample()
    for size in ("06", "08"):
        with pytest.raises(ProtocolError):
            decode(Sample, 2, body[:-1] + bytes.fromhex(f"01 03 {size} 00000003 02 7a 00 00"))


def test_a_tagged_struct_that_says_nothing_is_left_out() -> None:
    """As Kafka does: every field of it has its default."""
    part = FetchResponsePartition(diverging_epoch=FetchResponseDivergingEpoch())
    quiet = FetchResponse(responses=[FetchResponseTopic(partitions=[part])])
    plain = FetchResponse(responses=[FetchResponseTopic(partitions=[FetchResponsePartition()])])
    assert encode(quiet, 12) == encode(plain, 12)


def test_tags_are_written_by_number() -> None:
    part = FetchResponsePartition(
        current_leader=CurrentLeader(1, 2), diverging_epoch=FetchResponseDivergingEpoch(3, 4)
    )
    data = encode(FetchResponse(responses=[FetchResponseTopic(partitions=[part])]), 12)
    assert bytes.fromhex("02 000d 00000003 0000000000000004 00 0109 00000001 00000002 00") in data


def test_null_means_all_topics_from_version_1_on() -> None:
    assert encode(MetadataRequest(None), 1) == b"\xff\xff\xff\xff"
    assert decode(MetadataRequest, 1, b"\xff\xff\xff\xff").topics is None
    with pytest.raises(ProtocolError):
        encode(MetadataRequest(None), 0)
    with pytest.raises(ProtocolError, match="topics must not be null"):
        decode(MetadataRequest, 0, b"\xff\xff\xff\xff")


def test_an_unnamed_topic_needs_a_version_with_ids() -> None:
    request = MetadataRequest([MetadataRequestTopic(bytes(range(16)), None)])
    assert decode(MetadataRequest, 12, encode(request, 12)) == request
    with pytest.raises(ProtocolError):
        encode(request, 9)


class Region:
    """A range of a file: all the encoder may ask of it is its length."""

    def __len__(self) -> int:
        return 1000


@pytest.mark.parametrize("version", [3, 9])
def test_records_are_pieces_of_their_own(version: int) -> None:
    region: Any = Region()
    request = ProduceRequest(
        topic_data=[ProduceRequestTopic("t", partition_data=[ProduceRequestPartition(0, region)] * 2)]
    )
    pieces = encoder(ProduceRequest, version)(request)
    assert [type(piece) for piece in pieces] == [bytearray, Region, bytearray, Region, bytearray]
    assert sum(map(len, pieces)) == len(b"".join(bytes(len(piece)) for piece in pieces))


def test_decoded_records_are_a_view() -> None:
    part = ProduceRequestPartition(0, b"rr")
    data = encode(ProduceRequest(topic_data=[ProduceRequestTopic("t", partition_data=[part])]), 9)
    with mmap(-1, len(data)) as buffer, memoryview(buffer) as view:
        buffer[:] = data
        request = decoder(ProduceRequest, 9)(buffer, 0, len(data), view)
        with request.topic_data[0].partition_data[0].records as records:
            buffer[data.index(b"rr")] = ord("s")
            assert records == b"sr"


def test_functions_are_made_once() -> None:
    assert decoder(FetchRequest, 18) is decoder(FetchRequest, 18)
    assert encoder(FetchRequest, 18) is encoder(FetchRequest, 18)
    assert decoder(FetchRequest, 18) is not decoder(FetchRequest, 17)


@pytest.mark.parametrize("version", [-1, 3, 19])
def test_a_version_that_is_not_declared_is_a_mistake_of_the_caller(version: int) -> None:
    with pytest.raises(ValueError, match="FetchRequest has no version"):
        decoder(FetchRequest, version)


def test_the_generated_text_is_shown_in_tracebacks() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(FetchRequest, 18, b"\0")
    text = "".join(traceback.format_exception(caught.value))
    assert "generated/FetchRequest.v18.decode" in text
    assert "unpack_from_" in text
    assert "def decode(b, p, end, view):" in source_of(FetchRequest, 18, "decode")
    assert "def encode(m):" in source_of(FetchRequest, 18, "encode")


def test_a_declaration_that_is_no_wire_type_is_refused() -> None:
    class Wrong(Struct, gc=False):
        number: int = 0

    with pytest.raises(TypeError, match="field number"):
        fields_of(Wrong)
