"""Fetch (1): batches to read.

Version 7 brought fetch sessions, 12 is flexible and detects diverging logs, 13 names topics by id, 15 moved
the replica into a tagged field, 16 names the endpoints of leaders, 17 the replica's directory, 18 its high
watermark.
"""

from collections.abc import Mapping, Sequence
from struct import Struct as Layout
from typing import Annotated, Any

from msgspec import Struct

from tailrace.core.errors import UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION, ProtocolError
from tailrace.core.protocol.compile import encoder
from tailrace.core.protocol.messages.current_leader import CurrentLeader, NodeEndpoint
from tailrace.core.protocol.primitives import UNENCODABLE, uvarint_bytes
from tailrace.core.protocol.schema import (
    IGNORABLE,
    NO_ID,
    Int8,
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


class FetchRequestReplicaState(Struct, gc=False):
    """Who fetches, if it is a follower."""

    replica_id: Int32 = -1
    replica_epoch: Int64 = -1


class FetchRequestPartition(Struct, gc=False):
    """From where to read a partition."""

    partition: Int32 = 0
    current_leader_epoch: Annotated[Int32, since(9), IGNORABLE] = -1
    fetch_offset: Int64 = 0
    last_fetched_epoch: Annotated[Int32, since(12)] = -1
    log_start_offset: Annotated[Int64, since(5), IGNORABLE] = -1
    partition_max_bytes: Int32 = 0
    replica_directory_id: Annotated[Uuid, since(17), tag(0), IGNORABLE] = NO_ID
    high_watermark: Annotated[Int64, since(18), tag(1), IGNORABLE] = 2**63 - 1


class FetchRequestTopic(Struct, gc=False):
    """The partitions of one topic."""

    topic: Annotated[String, upto(12), IGNORABLE] = ""
    topic_id: Annotated[Uuid, since(13), IGNORABLE] = NO_ID
    partitions: list[FetchRequestPartition] = []


class FetchRequestForgottenTopic(Struct, gc=False):
    """Partitions to drop from the session."""

    topic: Annotated[String, upto(12), IGNORABLE] = ""
    topic_id: Annotated[Uuid, since(13), IGNORABLE] = NO_ID
    partitions: list[Int32] = []


@message(versions=(4, 18), flexible=12)
class FetchRequest(Struct, gc=False):
    """What to read, how long to wait and how much to return."""

    cluster_id: Annotated[NullableString, since(12), tag(0), IGNORABLE] = None
    replica_id: Annotated[Int32, upto(14)] = -1
    replica_state: Annotated[FetchRequestReplicaState | None, since(15), tag(1)] = None
    max_wait_ms: Int32 = 0
    min_bytes: Int32 = 0
    max_bytes: Annotated[Int32, since(3), IGNORABLE] = 2**31 - 1
    isolation_level: Annotated[Int8, since(4), IGNORABLE] = 0
    session_id: Annotated[Int32, since(7), IGNORABLE] = 0
    session_epoch: Annotated[Int32, since(7), IGNORABLE] = -1
    topics: list[FetchRequestTopic] = []
    forgotten_topics_data: Annotated[list[FetchRequestForgottenTopic], since(7)] = []
    rack_id: Annotated[String, since(11), IGNORABLE] = ""


class FetchResponseDivergingEpoch(Struct, gc=False):
    """Where the leader's log last agreed with the follower's."""

    epoch: Int32 = -1
    end_offset: Int64 = -1


class FetchResponseSnapshot(Struct, gc=False):
    """The snapshot to fetch instead of batches."""

    end_offset: Int64 = -1
    epoch: Int32 = -1


class FetchResponseAbortedTransaction(Struct, gc=False):
    """A transaction whose records a committed reader drops."""

    producer_id: Int64 = 0
    first_offset: Int64 = 0


class FetchResponsePartition(Struct, gc=False):
    """What was read of a partition."""

    partition_index: Int32 = 0
    error_code: Int16 = 0
    high_watermark: Int64 = 0
    last_stable_offset: Annotated[Int64, since(4), IGNORABLE] = -1
    log_start_offset: Annotated[Int64, since(5), IGNORABLE] = -1
    diverging_epoch: Annotated[FetchResponseDivergingEpoch | None, since(12), tag(0)] = None
    current_leader: Annotated[CurrentLeader | None, since(12), tag(1)] = None
    snapshot_id: Annotated[FetchResponseSnapshot | None, since(12), tag(2)] = None
    aborted_transactions: Annotated[list[FetchResponseAbortedTransaction] | None, since(4), IGNORABLE] = None
    preferred_read_replica: Annotated[Int32, since(11)] = -1
    records: Records = None


class FetchResponseTopic(Struct, gc=False):
    """The partitions of one topic."""

    topic: Annotated[String, upto(12), IGNORABLE] = ""
    topic_id: Annotated[Uuid, since(13), IGNORABLE] = NO_ID
    partitions: list[FetchResponsePartition] = []


@message(versions=(4, 18), flexible=12)
class FetchResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Annotated[Int32, since(1), IGNORABLE] = 0
    error_code: Annotated[Int16, since(7), IGNORABLE] = 0
    session_id: Annotated[Int32, since(7)] = 0
    responses: list[FetchResponseTopic] = []
    node_endpoints: Annotated[list[NodeEndpoint], since(16), tag(0)] = []


# (partition, error code, high watermark, last stable offset, log start offset, records or None)
FetchedPartition = tuple[int, int, int, int, int, Any]
# by name up to version 12, by id from 13 on
FetchedTopic = tuple[str | bytes, list[FetchedPartition]]

Leaders = Mapping[tuple[str | bytes, int], CurrentLeader]
"""By topic and partition: who leads what a client was wrong about."""
Preferred = Mapping[tuple[str | bytes, int], int]
"""By topic and partition: the broker that shall be read instead."""

_UNKNOWN = (UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID)

_head = Layout(">ihi").pack
_topic = Layout(">16sB").pack
_partition = Layout(">ihqqqBi").pack  # up to the length of its records


def encode_fetch_response(
    version: int,
    throttle_time_ms: int,
    error_code: int,
    session_id: int,
    topics: list[FetchedTopic],
    *,
    committed: bool = False,
    leaders: Leaders | None = None,
    preferred: Preferred | None = None,
    endpoints: Sequence[NodeEndpoint] = (),
) -> list[Any]:
    """Encode the usual response without building messages: no divergence or aborted transactions. With
    `leaders` to hint at or replicas that are `preferred`, which is seldom, it takes the way of all messages.

    A reader at isolation level `committed` gets an empty list of aborted transactions instead of null, as
    does anybody for a partition that does not exist: so does Kafka.
    The bytes are those of FetchResponse's encoder; versions without tagged fields take the way through it.
    """
    if version < 12 or leaders or preferred:
        response = FetchResponse(throttle_time_ms, error_code, session_id, node_endpoints=list(endpoints))
        return _encode_slowly(version, response, topics, committed, leaders or {}, preferred or {})
    try:
        pieces: list[Any] = []
        out = bytearray(_head(throttle_time_ms, error_code, session_id))
        out += uvarint_bytes(len(topics) + 1)
        for topic, partitions in topics:
            count = len(partitions) + 1
            if isinstance(topic, str):
                name = topic.encode()
                out += uvarint_bytes(len(name) + 1) + name + uvarint_bytes(count)
            elif count < 128:
                out += _topic(topic, count)
            else:
                out += topic + uvarint_bytes(count)
            for index, error, high_watermark, stable, start, records in partitions:
                size = 0 if records is None else len(records) + 1
                aborted = error in _UNKNOWN if error else committed
                out += _partition(index, error, high_watermark, stable, start, aborted, -1)
                out += uvarint_bytes(size)
                if size > 1:
                    pieces.append(out)
                    pieces.append(records)
                    out = bytearray(1)
                else:
                    out.append(0)
            out.append(0)
        out.append(0)
        pieces.append(out)
        return pieces
    except UNENCODABLE as error:
        raise ProtocolError(f"cannot encode FetchResponse version {version}: {error}") from error


def _encode_slowly(
    version: int,
    response: FetchResponse,
    topics: list[FetchedTopic],
    committed: bool,
    leaders: Leaders,
    preferred: Preferred,
) -> list[Any]:
    for topic, partitions in topics:
        parts: list[FetchResponsePartition] = []
        for part in partitions:
            aborted = part[1] in _UNKNOWN if part[1] else committed
            parts.append(
                FetchResponsePartition(
                    *part[:5],
                    current_leader=leaders.get((topic, part[0])),
                    aborted_transactions=[] if aborted else None,
                    preferred_read_replica=preferred.get((topic, part[0]), -1),
                    records=part[5],
                )
            )
        if isinstance(topic, str):
            response.responses.append(FetchResponseTopic(topic, partitions=parts))
        else:
            response.responses.append(FetchResponseTopic(topic_id=topic, partitions=parts))
    return encoder(FetchResponse, version)(response)
