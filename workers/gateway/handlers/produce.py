"""Produce (key 0), versions 3 to 13: each partition's batch goes to its leader as one entry.

The record bytes stay where they were received; the worker's copy into its segment is the only one. With
acks=all the worker answers once the batch is committed: of a partition that has replicas this may take until
the request's time is over, and then its client hears so while the batch stays. Versions 0 to 2 are advertised
for librdkafka and refused.
"""

from typing import TYPE_CHECKING

from tailrace.core.errors import (
    CORRUPT_MESSAGE,
    INVALID_REQUIRED_ACKS,
    INVALID_TIMESTAMP,
    INVALID_TOPIC_EXCEPTION,
    KAFKA_STORAGE_ERROR,
    MESSAGE_TOO_LARGE,
    NONE,
    NOT_LEADER_OR_FOLLOWER,
    RECORD_LIST_TOO_LARGE,
    REQUEST_TIMED_OUT,
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    UNKNOWN_TOPIC_ID,
    UNKNOWN_TOPIC_OR_PARTITION,
    UNSUPPORTED_VERSION,
    KafkaError,
)
from tailrace.core.log.admission import is_plain, whole_batch
from tailrace.core.metadata.topics import INTERNAL_TOPICS
from tailrace.core.protocol.messages.current_leader import CurrentLeader
from tailrace.core.protocol.messages.produce import (
    ProduceResponse,
    ProduceResponsePartition,
    ProduceResponseTopic,
    decode_produce,
    encode_appended,
)
from tailrace.shm.state_table import LOG_START_OFFSET
from tailrace.workers.descriptors import ONCE_COMMITTED, PRODUCE
from tailrace.workers.gateway.buffers import Block
from tailrace.workers.gateway.outstanding import Completion
from tailrace.workers.gateway.partitions import HOLD_MS, Partition
from tailrace.workers.gateway.request import Request

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway

_WITHOUT_START = {  # errors beside which Kafka does not tell the start of the log
    CORRUPT_MESSAGE, KAFKA_STORAGE_ERROR, MESSAGE_TOO_LARGE, NOT_LEADER_OR_FOLLOWER, RECORD_LIST_TOO_LARGE,
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED, UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION,
}  # fmt: skip
ADMIN_CLIENT = "__admin_client"
HINTS_SINCE = 10  # version
HINT_MS = 500  # an answer waits so long for the next leader
_BAD_TIME = "One or more records have been rejected due to invalid timestamp"


class _Pending:
    """A request of which some partitions are not answered yet."""

    __slots__ = (
        *("acks", "block", "deadline_ms", "failed", "gateway", "is_over", "remaining", "request"),
        *("timeout_ms", "topics", "waits"),
    )

    def __init__(
        self, gateway: "Gateway", request: Request, acks: int, timeout_ms: int, block: Block
    ) -> None:
        self.gateway = gateway
        self.request = request
        self.acks = acks
        self.block = block
        self.topics: list[ProduceResponseTopic] = []
        self.remaining = 1  # the handler itself, until it has sent all
        self.failed = False
        self.waits = False  # for others than the leader, for a bounded time
        self.timeout_ms = timeout_ms
        self.deadline_ms = 0
        self.is_over = False  # answered, though not all have been

    def begin_to_wait(self) -> None:
        """All is sent, and some of it is not answered yet."""
        self.deadline_ms = self.gateway.now_ms() + max(0, self.timeout_ms)
        self.gateway.produce_timeouts.add(self)

    def time_out(self) -> None:
        """Answer for those that wait still. (R) Their bytes stay where they are until the worker is done."""
        self.is_over = self.failed = True
        for topic in self.topics:
            for part in topic.partition_responses:
                if part.error_code == NONE and part.base_offset < 0:
                    part.error_code = REQUEST_TIMED_OUT
        self.request.respond(self._failure())

    def done(self, error: int) -> None:
        """One part is answered; with the last the request is."""
        if error:
            self.failed = True
        self.remaining -= 1
        if self.remaining:
            return
        self.gateway.buffers.unpin(self.block)
        if self.waits:
            self.gateway.produce_timeouts.remove(self)
        if self.is_over:
            return
        if self.acks:
            if self.failed:
                self.request.respond(self._failure())
            else:
                self.request.respond_body(encode_appended(self.topics, self.request.version))
        elif self.failed:
            self.request.connection.hang_up(self.request)  # as Kafka: all that an acks=0 client can be told
        else:
            self.request.answer([])

    def _failure(self) -> ProduceResponse:
        response = ProduceResponse(self.topics)
        if self.request.version >= HINTS_SINCE:
            leaders = [part.current_leader for topic in self.topics for part in topic.partition_responses]
            response.node_endpoints = self.gateway.brokers.endpoints(leaders, self.request.connection)
        return response


class _Part:
    """One partition's batch of a request."""

    __slots__ = ("deadline_ms", "epoch", "length", "partition", "pending", "position", "response")

    def __init__(
        self,
        pending: _Pending,
        partition: Partition,
        response: ProduceResponsePartition,
        position: int,
        length: int,
    ) -> None:
        self.pending = pending
        self.partition = partition
        self.response = response
        self.position = position
        self.length = length
        self.deadline_ms = 0
        self.epoch = -1  # of the leader that it was sent to

    def try_send(self) -> bool:
        """Send to the leader; False: there is none, or its ring is full."""
        partition, pending = self.partition, self.pending
        assigned = partition.assigned
        if assigned is None or partition.error:
            return False
        self.epoch = assigned.leader_epoch
        extra = ONCE_COMMITTED if pending.acks < 0 else 0
        return pending.gateway.outstanding.send(
            assigned, PRODUCE, pending.block.serial, self.position, self.length, self.on_completion, extra
        )

    def try_send_held(self) -> bool:
        """The same for one that was held: gives up after HOLD_MS, or when the partition is gone."""
        if self.pending.is_over:
            self.fail(REQUEST_TIMED_OUT)
            return True
        if self.try_send():
            return True
        error = self.pending.gateway.partitions.refusal(self.partition)
        if error or self.pending.gateway.now_ms() >= self.deadline_ms:
            self.fail(error or NOT_LEADER_OR_FOLLOWER)
            return True
        return False

    def fail(self, error: int) -> None:
        """Answered without a worker."""
        self.response.error_code = error
        if error == NOT_LEADER_OR_FOLLOWER:
            self._hint()
        self.pending.done(error)

    def on_completion(self, entry: Completion) -> None:
        """The leader's answer."""
        response = self.response
        error = entry[2]
        if error == NOT_LEADER_OR_FOLLOWER and self._awaits_hint():
            return
        response.error_code = error
        response.base_offset = entry[3]
        response.log_append_time_ms = entry[4]
        response.log_start_offset = entry[5]
        if error:
            self._explain(error)
        self.pending.done(error)

    def _awaits_hint(self) -> bool:
        """Whether the answer is put off: where a leader died, a client that hears at once who the next one is
        sends its batch there; one that does not pauses before it asks.
        """
        pending = self.pending
        if pending.request.version < HINTS_SINCE or pending.is_over:
            return False
        self.deadline_ms = pending.gateway.now_ms() + HINT_MS
        return self._hinted() is None and pending.gateway.partitions.hold(self.partition, self._try_hint)

    def _hinted(self) -> CurrentLeader | None:
        """Who leads; none that has refused this batch."""
        found = self.pending.gateway.brokers.hint(self.partition)
        return found if found is not None and found.leader_epoch > self.epoch else None

    def _try_hint(self) -> bool:
        gateway = self.pending.gateway
        is_known = self._hinted() is not None or gateway.partitions.refusal(self.partition) != NONE
        if not is_known and gateway.now_ms() < self.deadline_ms and not self.pending.is_over:
            return False
        self.fail(NOT_LEADER_OR_FOLLOWER)
        return True

    def _hint(self) -> None:
        """The client need not ask who leads (KIP-951)."""
        if self.pending.request.version >= HINTS_SINCE:
            self.response.current_leader = self._hinted()

    def _explain(self, error: int) -> None:
        """What Kafka tells beside an error of the log."""
        if error == NOT_LEADER_OR_FOLLOWER:
            self._hint()
        elif error == INVALID_TIMESTAMP:
            self.response.error_message = _BAD_TIME
        row = self.pending.gateway.partitions.read_row(self.partition)
        if row is not None and error not in _WITHOUT_START:
            self.response.log_start_offset = row[LOG_START_OFFSET]


def handle(gateway: "Gateway", request: Request) -> None:
    """Send every partition's batch to its leader; the last completion answers."""
    block = request.connection.block
    assert block is not None
    transactional_id, acks, timeout_ms, topics = decode_produce(
        block.map, request.position, request.end, request.version
    )
    block.pins += 1
    pending = _Pending(gateway, request, acks, timeout_ms, block)
    refusal = NONE
    if acks not in (-1, 0, 1):
        refusal = INVALID_REQUIRED_ACKS
    elif transactional_id is not None:
        refusal = UNSUPPORTED_VERSION  # no transaction coordinator is served: see LIMITS.md
    for name, topic_id, parts in topics:
        responses: list[ProduceResponsePartition] = []
        pending.topics.append(ProduceResponseTopic(name or "", topic_id or bytes(16), responses))
        for index, position, length in parts:
            response = ProduceResponsePartition(index)
            response.base_offset = response.log_append_time_ms = response.log_start_offset = -1
            responses.append(response)
            error = refusal
            if not error and not is_plain(block.map, position, length, request.version):
                try:
                    length = whole_batch(block.map, position, length, request.version)
                except KafkaError as refused:
                    error, response.error_message = refused.code, refused.message or None
            _route(gateway, pending, response, (name, topic_id, position, length), error)
    pending.done(NONE)
    if pending.waits and pending.remaining:
        pending.begin_to_wait()


def _route(
    gateway: "Gateway",
    pending: _Pending,
    response: ProduceResponsePartition,
    source: tuple[str | None, bytes | None, int, int],
    error: int,
) -> None:
    name, topic_id, position, length = source
    image = gateway.image
    topic = image.topics_by_name.get(name) if name is not None else image.topics_by_id.get(topic_id or b"")
    pending.remaining += 1
    if not error and (topic is None or not 0 <= response.index < len(topic.partitions)):
        unknown_id = topic is None and name is None
        error = UNKNOWN_TOPIC_ID if unknown_id else UNKNOWN_TOPIC_OR_PARTITION
    elif topic is not None and topic.name in INTERNAL_TOPICS and pending.request.client_id != ADMIN_CLIENT:
        error = error or INVALID_TOPIC_EXCEPTION  # as Kafka: what coordinators rely on is theirs to write
    if error or topic is None:
        response.error_code = error
        pending.done(error)
        return
    partition = gateway.partitions.get(topic.name, topic.topic_id, response.index)
    part = _Part(pending, partition, response, position, length)
    if pending.acks < 0 and len(topic.partitions[response.index].replicas) > 1:
        pending.waits = True
    if not partition.held and part.try_send():
        return
    refusal = gateway.partitions.refusal(partition)
    if refusal:
        part.fail(refusal)
        return
    part.deadline_ms = gateway.now_ms() + HOLD_MS
    if not gateway.partitions.hold(partition, part.try_send_held):
        part.fail(NOT_LEADER_OR_FOLLOWER)
