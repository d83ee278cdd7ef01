"""Fetch (key 1), versions 4 to 18: no worker is asked.

The row says how far the log may be read, the index where; the bytes go out by sendfile. A request that finds
too little waits (`long_polls`), and so does one whose bytes are on the disk (`cold_reads`). From version 11
on followers are read as well, up to their own high watermark, and who leads may send a client to one in its
rack (KIP-392). Replica fetches are refused: no follower speaks this protocol here.
"""

from typing import TYPE_CHECKING, Any

from tailrace.core.errors import (
    CLUSTER_AUTHORIZATION_FAILED,
    FENCED_LEADER_EPOCH,
    KAFKA_STORAGE_ERROR,
    NONE,
    NOT_LEADER_OR_FOLLOWER,
    OFFSET_OUT_OF_RANGE,
    UNKNOWN_LEADER_EPOCH,
    UNKNOWN_SERVER_ERROR,
    UNKNOWN_TOPIC_ID,
    UNKNOWN_TOPIC_OR_PARTITION,
)
from tailrace.core.fetch_sessions import FetchContext, FetchPartition
from tailrace.core.protocol.messages.current_leader import CurrentLeader
from tailrace.core.protocol.messages.fetch import (
    FetchedTopic,
    FetchRequest,
    FetchResponse,
    FetchResponsePartition,
    FetchResponseTopic,
    encode_fetch_response,
)
from tailrace.shm.state_table import (
    ACTIVE_SEGMENT_BASE_OFFSET,
    HIGH_WATERMARK,
    HIGH_WATERMARK_POSITION,
    HW_SEGMENT_BASE_OFFSET,
    LEADER_EPOCH,
    LOG_END_OFFSET,
    LOG_START_OFFSET,
    ROLE,
    ROLE_FOLLOWER,
    ROLE_LEADER,
    ROLE_OFFLINE,
    SEGMENT_GENERATION,
    Row,
)
from tailrace.workers.gateway.cold_reads import ColdRead, Warmed
from tailrace.workers.gateway.partitions import Partition
from tailrace.workers.gateway.preferred_replicas import preferred_replica
from tailrace.workers.gateway.request import Request
from tailrace.workers.gateway.sendfile import FileRange

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway

COLD_AT_ONCE = 256  # reads from the disk that one fetch waits for; each holds a file open
COPY_BYTES_MAX = 32 * 1024  # up to here a read into the answer is cheaper than a sendfile call
FOLLOWERS_SINCE = 11  # version
HINTS_SINCE = 16
READ_UNCOMMITTED, READ_COMMITTED = 0, 1

Result = tuple[FetchPartition, Partition | None, int, int, int, Any]
"""What was asked, whose it is, error, high watermark, log start offset, records."""


class Fetch:
    """One fetch request, answered now or after a wait."""

    __slots__ = (
        "cold",
        "context",
        "deadline_ms",
        "found",
        "gateway",
        "message",
        "preferred",
        "reading",
        "request",
        "warmed",
    )

    def __init__(
        self, gateway: "Gateway", request: Request, message: FetchRequest, context: FetchContext
    ) -> None:
        self.gateway = gateway
        self.request = request
        self.message = message
        self.context = context
        self.deadline_ms = gateway.now_ms() + max(0, message.max_wait_ms)
        self.preferred: dict[tuple[str | bytes, int], int] = {}  # who shall be asked instead
        self.found = -1  # partitions that exist, when it was last looked
        self.cold: list[ColdRead] = []  # met in this look
        self.warmed: Warmed = {}
        self.reading = 0  # reads from the disk that it waits for

    def try_answer(self, *, late: bool) -> bool:
        """Answer if there is enough, an error, or it is late; or have read in what is on the disk and answer
        then. False: go on waiting for records.
        """
        if self.request.connection.closed:
            return True
        self.gateway.cold_reads.warmed = self.warmed
        results: list[Result] = []
        size, found, failed = 0, 0, False
        left = min(self.message.max_bytes, self.gateway.config.fetch_max_bytes)
        for part in self.context.partitions.values():
            met = len(self.cold)
            result = self._read(part, left, min_one=size == 0)
            length = self.cold[-1].length if len(self.cold) > met else len(result[5])
            size += length
            left = max(0, left - length)
            if result[1] is not None:
                found += 1
                failed = failed or result[2] != NONE
            results.append(result)
            if len(self.cold) >= COLD_AT_ONCE:
                break
        if self.cold:
            self._drop(results)
            self._read_in()
            return True
        # one that does not exist is told when the others are, or its client would ask again and again
        failed = failed or not found or found < self.found or bool(self.preferred)
        self.found = found
        if not (late or failed or size >= self.message.min_bytes):
            self._drop(results)
            return False
        self._answer(results)
        return True

    def _drop(self, results: list[Result]) -> None:
        self.request.connection.drop([result[5] for result in results])

    def _read_in(self) -> None:
        """Have a thread read what is on the disk, then look again."""
        cold, self.cold = self.cold, []
        self.reading = len(cold)
        for one in cold:
            self.gateway.cold_reads.start(one, self.warmed, self._on_read_in)

    def _on_read_in(self) -> None:
        self.reading -= 1
        if self.reading:
            return
        is_late = self.gateway.now_ms() >= self.deadline_ms
        if not self.try_answer(late=is_late):
            self.gateway.long_polls.wait(self)

    def _read(self, part: FetchPartition, left: int, *, min_one: bool) -> Result:
        partition, error = self._find(part)
        row = None
        if partition is not None:
            row = self.gateway.partitions.read_row(partition)
            error = self._refusal(part, row, partition)
        if partition is None or row is None or error:
            return part, partition, error, -1, -1, b""
        high_watermark = row[HIGH_WATERMARK]
        records: Any = b""
        if self.message.rack_id:
            preferred = preferred_replica(
                self.gateway, partition, row, self.request, self.message.rack_id, part
            )
            if preferred is not None:
                self.preferred[part.topic, part.partition] = preferred
                return part, partition, NONE, high_watermark, row[LOG_START_OFFSET], records
        if part.fetch_offset < high_watermark and (left != 0 or min_one):
            if min(part.max_bytes, left) < 0:
                return part, partition, UNKNOWN_SERVER_ERROR, -1, -1, b""  # as Kafka
            try:
                records = self._locate(partition, row, part, left, min_one)
            except ColdRead as cold:
                self.cold.append(cold)
            except OSError as failed:
                if partition.place is not None:
                    self.gateway.context.blame_disk(partition.place.log_dir, failed)
                error = self._refusal(part, self.gateway.partitions.read_row(partition), partition)
                return part, partition, error or KAFKA_STORAGE_ERROR, -1, -1, b""  # or deleted meanwhile
        return part, partition, NONE, high_watermark, row[LOG_START_OFFSET], records

    def _refusal(self, part: FetchPartition, row: Row | None, partition: Partition) -> int:
        """Why the partition cannot be read at that offset, NONE if it can."""
        error = partition.error
        if row is None:
            return error or NOT_LEADER_OR_FOLLOWER
        if error not in (NONE, NOT_LEADER_OR_FOLLOWER):
            return error
        role, epoch, wanted = row[ROLE], row[LEADER_EPOCH], part.current_leader_epoch
        if role == ROLE_OFFLINE:  # its disk failed, or it is being deleted
            return KAFKA_STORAGE_ERROR
        if wanted >= 0 and wanted != epoch and role in (ROLE_LEADER, ROLE_FOLLOWER):
            return FENCED_LEADER_EPOCH if wanted < epoch else UNKNOWN_LEADER_EPOCH
        if not self._may_be_read(partition, role, epoch):
            return NOT_LEADER_OR_FOLLOWER
        if not row[LOG_START_OFFSET] <= part.fetch_offset <= row[LOG_END_OFFSET]:
            return OFFSET_OUT_OF_RANGE
        return NONE

    def _may_be_read(self, partition: Partition, role: int, epoch: int) -> bool:
        """Whether this replica is the leader, or a follower that may be read. One whose leader died leaves a
        row that still says so: it goes on being read until another is known to lead elsewhere.
        """
        if role == ROLE_FOLLOWER:
            return self.request.version >= FOLLOWERS_SINCE
        if role != ROLE_LEADER:
            return False
        leader, known_epoch = self.gateway.partitions.leadership(partition)
        return known_epoch <= epoch or leader == self.gateway.context.node_id

    def _find(self, part: FetchPartition) -> tuple[Partition | None, int]:
        topic = self.gateway.topic(part.topic)
        unknown = UNKNOWN_TOPIC_OR_PARTITION if isinstance(part.topic, str) else UNKNOWN_TOPIC_ID
        if topic is None:
            return None, unknown
        if not 0 <= part.partition < len(topic.partitions):
            return None, UNKNOWN_TOPIC_OR_PARTITION
        return self.gateway.partitions.get(topic.name, topic.topic_id, part.partition), NONE

    def _locate(self, partition: Partition, row: Row, part: FetchPartition, left: int, min_one: bool) -> Any:
        found = self.gateway.partitions.reader_of(partition).locate(
            part.fetch_offset,
            high_watermark=row[HIGH_WATERMARK],
            hw_segment_base_offset=row[HW_SEGMENT_BASE_OFFSET],
            hw_position=row[HIGH_WATERMARK_POSITION],
            active_segment_base_offset=row[ACTIVE_SEGMENT_BASE_OFFSET],
            segment_generation=row[SEGMENT_GENERATION],
            max_bytes=min(part.max_bytes, left),
            min_one=min_one,
            hint=partition.hint,
        )
        if found is None or found.length == 0:
            return b""
        if found.length <= COPY_BYTES_MAX:
            records: Any = found.file.read(found.position, found.length)
        else:
            self.gateway.cold_reads.check(found.file, found.position, found.length)
            records = FileRange(found.file, found.position, found.length)
        partition.hint = found.next_hint
        return records

    def _answer(self, results: list[Result]) -> None:
        context = self.context
        topics: list[FetchedTopic] = []
        leaders = self._hints(results) if self.request.version >= HINTS_SINCE else {}
        if self.found < len(results):  # what does not exist comes last, as in Kafka
            results.sort(key=lambda result: result[1] is None)
        for part, _, error, high_watermark, log_start, records in results:
            size = len(records)
            is_sent_away = (part.topic, part.partition) in self.preferred
            if not (is_sent_away or context.is_told(part, error, high_watermark, log_start, size)):
                continue
            context.told(part, error, high_watermark, log_start, size)
            stable = high_watermark
            row = (part.partition, error, high_watermark, stable, log_start, records)
            if not topics or topics[-1][0] != part.topic:
                topics.append((part.topic, []))
            topics[-1][1].append(row)
        self.request.respond_pieces(
            encode_fetch_response(
                self.request.version,
                0,
                NONE,
                context.session_id,
                topics,
                committed=self.message.isolation_level == READ_COMMITTED,
                leaders=leaders,
                preferred=self.preferred,
                endpoints=self.gateway.brokers.endpoints(leaders.values(), self.request.connection)
                if leaders
                else (),
            )
        )

    def _hints(self, results: list[Result]) -> dict[tuple[str | bytes, int], CurrentLeader]:
        """Who leads what the client was wrong about (KIP-951)."""
        leaders: dict[tuple[str | bytes, int], CurrentLeader] = {}
        for part, partition, error, *_ in results:
            if partition is not None and error in (NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH):
                leader = self.gateway.brokers.hint(partition)
                if leader is not None:
                    leaders[part.topic, part.partition] = leader
        return leaders


def _failure(message: FetchRequest) -> FetchResponse:
    """What Kafka answers to a request that it fails on."""
    topics: list[FetchResponseTopic] = []
    for topic in message.topics:
        parts = [
            FetchResponsePartition(
                part.partition, UNKNOWN_SERVER_ERROR, -1, aborted_transactions=[], records=b""
            )
            for part in topic.partitions
        ]
        topics.append(FetchResponseTopic(topic.topic, topic.topic_id, parts))
    return FetchResponse(error_code=UNKNOWN_SERVER_ERROR, responses=topics)


def handle(gateway: "Gateway", request: Request) -> None:
    """Answer at once or wait for records."""
    message: FetchRequest = request.decode()
    replica = message.replica_state.replica_id if message.replica_state else message.replica_id
    if replica >= 0:
        request.respond_pieces(encode_fetch_response(request.version, 0, CLUSTER_AUTHORIZATION_FAILED, 0, []))
        return
    if message.isolation_level not in (READ_UNCOMMITTED, READ_COMMITTED):
        request.respond(_failure(message))
        return
    context = gateway.fetch_sessions.context(message, request.version >= 13, gateway.now_ms())
    if context.error_code:
        request.respond_pieces(encode_fetch_response(request.version, 0, context.error_code, 0, []))
        return
    fetch = Fetch(gateway, request, message, context)
    if not fetch.try_answer(late=message.max_wait_ms <= 0):
        gateway.long_polls.wait(fetch)
