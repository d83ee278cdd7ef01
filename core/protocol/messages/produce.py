"""Produce (0): batches to append.

Versions 0-2 carry message formats that Kafka 4 no longer takes; they are advertised for the sake of clients
that look at the range alone, and cannot be decoded. Version 13 names topics by id.
"""

from struct import Struct as Layout
from typing import Annotated

from msgspec import Struct

from tailrace.core.errors import ProtocolError
from tailrace.core.protocol.messages.current_leader import CurrentLeader, NodeEndpoint
from tailrace.core.protocol.primitives import (
    ENTRIES_MAX,
    MALFORMED,
    Source,
    skip_tags,
    take_room,
    too_long,
    too_many,
    uvarint,
    uvarint_bytes,
)
from tailrace.core.protocol.schema import (
    IGNORABLE,
    NO_ID,
    Int16,
    Int32,
    Int64,
    NullableString,
    Records,
    String,
    Uuid,
    message,
    since,
    tag,
    upto,
)


class ProduceRequestPartition(Struct, gc=False):
    """The batches for one partition."""

    index: Int32 = 0
    records: Records = None


class ProduceRequestTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: Annotated[String, upto(12), IGNORABLE] = ""
    topic_id: Annotated[Uuid, since(13), IGNORABLE] = NO_ID
    partition_data: list[ProduceRequestPartition] = []


@message(versions=(3, 13), flexible=9)
class ProduceRequest(Struct, gc=False):
    """Batches to append; acks 0 has no response."""

    transactional_id: NullableString = None
    acks: Int16 = 0
    timeout_ms: Int32 = 0
    topic_data: list[ProduceRequestTopic] = []


class ProduceResponseRecordError(Struct, gc=False):
    """One record that made its batch refused."""

    batch_index: Int32 = 0
    batch_index_error_message: NullableString = None


class ProduceResponsePartition(Struct, gc=False):
    """Where the batches went."""

    index: Int32 = 0
    error_code: Int16 = 0
    base_offset: Int64 = 0
    log_append_time_ms: Annotated[Int64, since(2), IGNORABLE] = -1
    log_start_offset: Annotated[Int64, since(5), IGNORABLE] = -1
    record_errors: Annotated[list[ProduceResponseRecordError], since(8), IGNORABLE] = []
    error_message: Annotated[NullableString, since(8), IGNORABLE] = None
    current_leader: Annotated[CurrentLeader | None, since(10), tag(0)] = None


class ProduceResponseTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: Annotated[String, upto(12), IGNORABLE] = ""
    topic_id: Annotated[Uuid, since(13), IGNORABLE] = NO_ID
    partition_responses: list[ProduceResponsePartition] = []


@message(versions=(3, 13), flexible=9)
class ProduceResponse(Struct, gc=False):
    """The answer."""

    responses: list[ProduceResponseTopic] = []
    throttle_time_ms: Annotated[Int32, since(1), IGNORABLE] = 0
    node_endpoints: Annotated[list[NodeEndpoint], since(10), tag(0)] = []


# (transactional id, acks, timeout ms, [(name, topic id, [(partition, records' position, their length)])])
# with None for the topic's name or its id
ProducePartitions = list[tuple[int, int, int]]
ProduceTopics = list[tuple[str | None, bytes | None, ProducePartitions]]
DecodedProduce = tuple[str | None, int, int, ProduceTopics]

_read_acks = Layout(">hiB").unpack_from
_read_acks_classic = Layout(">hii").unpack_from
_read_id = Layout(">16sB").unpack_from
_read_partition = Layout(">iB").unpack_from
_read_partition_classic = Layout(">ii").unpack_from
_read_length = Layout(">h").unpack_from
_read_count = Layout(">i").unpack_from


def decode_produce(buffer: Source, position: int, end: int, version: int) -> DecodedProduce:
    """Walk a request where it lies: records are places in the buffer, length -1 for null.

    The same bounds and errors as the decoder of ProduceRequest.
    """
    try:
        walk = _walk_flexible if version >= 9 else _walk_classic
        decoded, stop = walk(buffer, position, end, version >= 13)
    except MALFORMED as error:
        raise ProtocolError(f"ProduceRequest version {version}: {error}") from error
    if stop > end:
        raise too_long("the message", stop, end)
    return decoded


def _walk_flexible(b: Source, p: int, end: int, by_id: bool) -> tuple[DecodedProduce, int]:
    n = b[p]
    p += 1
    transactional_id = None
    if n:
        transactional_id, p = _string(b, p, end, n, "transactional id")
    acks, timeout_ms, n = _read_acks(b, p)
    p += 7
    if n > 127:
        n, p = uvarint(b, p - 1)
    if not 0 < n <= end - p + 1:
        raise too_long("topics", n - 1, end - p)
    room = ENTRIES_MAX + 1 - n
    if room < 0:
        raise too_many()
    topics: ProduceTopics = []
    for _ in range(n - 1):
        name = topic_id = None
        if by_id:
            topic_id, n = _read_id(b, p)
            p += 17
        else:
            name, p = _string(b, p + 1, end, b[p], "topic name")
            n = b[p]
            p += 1
        if n > 127:
            n, p = uvarint(b, p - 1)
        if not 0 <= (n - 1) * 6 <= end - p:
            raise too_long("partitions", n - 1, end - p)
        room += 1 - n
        if room < 0:  # (R) see ENTRIES_MAX
            raise too_many()
        partitions: ProducePartitions = []
        for _ in range(n - 1):
            index, n = _read_partition(b, p)
            p += 5
            if n > 127:
                n, p = uvarint(b, p - 1)
            n -= 1
            if n > end - p:
                raise too_long("records", n, end - p)
            partitions.append((index, p, n))
            if n > 0:
                p += n
            if b[p]:
                room = take_room(room, b[p])
                p = skip_tags(b, p + 1, end, b[p])
            else:
                p += 1
        if b[p]:
            room = take_room(room, b[p])
            p = skip_tags(b, p + 1, end, b[p])
        else:
            p += 1
        topics.append((name, topic_id, partitions))
    if b[p]:
        return (transactional_id, acks, timeout_ms, topics), skip_tags(b, p + 1, end, b[p])
    return (transactional_id, acks, timeout_ms, topics), p + 1


def _string(b: Source, p: int, end: int, n: int, label: str) -> tuple[str, int]:
    """A compact string whose length's first byte n was read."""
    if n > 127:
        n, p = uvarint(b, p - 1)
    q = p + n - 1
    if not p <= q <= end:
        raise too_long(label, n - 1, end - p)
    return b[p:q].decode(), q


def _walk_classic(b: Source, p: int, end: int, _by_id: bool) -> tuple[DecodedProduce, int]:
    (n,) = _read_length(b, p)
    p += 2
    transactional_id = None
    if n >= 0:
        transactional_id, p = _classic_string(b, p, end, n, "transactional id")
    acks, timeout_ms, n = _read_acks_classic(b, p)
    p += 10
    if not 0 <= n * 6 <= end - p:
        raise too_long("topics", n, end - p)
    room = ENTRIES_MAX - n
    if room < 0:
        raise too_many()
    topics: ProduceTopics = []
    for _ in range(n):
        (n,) = _read_length(b, p)
        name, p = _classic_string(b, p + 2, end, n, "topic name")
        (n,) = _read_count(b, p)
        p += 4
        if not 0 <= n * 8 <= end - p:
            raise too_long("partitions", n, end - p)
        room -= n
        if room < 0:
            raise too_many()
        partitions: ProducePartitions = []
        for _ in range(n):
            index, n = _read_partition_classic(b, p)
            p += 8
            if n > end - p:
                raise too_long("records", n, end - p)
            partitions.append((index, p, n if n >= 0 else -1))
            if n > 0:
                p += n
        topics.append((name, None, partitions))
    return (transactional_id, acks, timeout_ms, topics), p


def _classic_string(b: Source, p: int, end: int, n: int, label: str) -> tuple[str, int]:
    q = p + n
    if not p <= q <= end:
        raise too_long(label, n, end - p)
    return b[p:q].decode(), q


_result_3 = Layout(">ihqq").pack
_result_5 = Layout(">ihqqq").pack
_NO_ERRORS_8 = b"\0\0\0\0\xff\xff"  # no record errors, no message
_NO_ERRORS_9 = b"\1\0\0"  # the same, and no tags


def encode_appended(topics: list[ProduceResponseTopic], version: int) -> bytes:
    """The body of a ProduceResponse in which nothing failed: byte for byte what its encoder writes, at a
    third of the time.
    """
    flexible = version >= 9
    parts = [_count(len(topics), flexible)]
    for topic in topics:
        results = topic.partition_responses
        if version >= 13:
            parts.append(topic.topic_id)
        else:
            name = topic.name.encode()
            parts.append((_count(len(name), True) if flexible else len(name).to_bytes(2)) + name)
        parts.append(_count(len(results), flexible))
        for r in results:
            if version < 5:
                parts.append(_result_3(r.index, 0, r.base_offset, r.log_append_time_ms))
                continue
            parts.append(_result_5(r.index, 0, r.base_offset, r.log_append_time_ms, r.log_start_offset))
            if version >= 8:
                parts.append(_NO_ERRORS_9 if flexible else _NO_ERRORS_8)
        if flexible:
            parts.append(b"\0")
    parts.append(b"\0\0\0\0\0" if flexible else b"\0\0\0\0")  # no throttling, no tags
    return b"".join(parts)


def _count(count: int, flexible: bool) -> bytes:
    return uvarint_bytes(count + 1) if flexible else count.to_bytes(4)
