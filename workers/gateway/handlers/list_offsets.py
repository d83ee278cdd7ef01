"""ListOffsets (key 2), versions 1 to 11: ends come from the row, timestamps are looked up by the leader.

Nothing is tiered: the local start is the start, the latest tiered offset is none.
"""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from tailrace.core.errors import (
    FENCED_LEADER_EPOCH,
    INVALID_REQUEST,
    KAFKA_STORAGE_ERROR,
    NONE,
    NOT_LEADER_OR_FOLLOWER,
    UNKNOWN_LEADER_EPOCH,
    UNKNOWN_SERVER_ERROR,
    UNKNOWN_TOPIC_OR_PARTITION,
    UNSUPPORTED_VERSION,
)
from tailrace.core.protocol.messages.list_offsets import (
    EARLIEST,
    EARLIEST_LOCAL,
    EARLIEST_PENDING_UPLOAD,
    LATEST,
    LATEST_TIERED,
    MAX_TIMESTAMP,
    ListOffsetsRequest,
    ListOffsetsRequestPartition,
    ListOffsetsResponse,
    ListOffsetsResponsePartition,
    ListOffsetsResponseTopic,
)
from tailrace.shm.state_table import (
    HIGH_WATERMARK,
    LEADER_EPOCH,
    LOG_START_OFFSET,
    ROLE,
    ROLE_LEADER,
    ROLE_OFFLINE,
)
from tailrace.workers.descriptors import LOOK_UP
from tailrace.workers.gateway.outstanding import Completion
from tailrace.workers.gateway.partitions import HOLD_MS, Partition
from tailrace.workers.gateway.request import Request

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway

LEADER_EPOCH_SINCE = 4
ISOLATION_LEVELS = (0, 1)
_SINCE = {MAX_TIMESTAMP: 7, EARLIEST_LOCAL: 8, LATEST_TIERED: 9, EARLIEST_PENDING_UPLOAD: 11}


class _Pending:
    """A request of which some partitions are still looked up."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.response = ListOffsetsResponse()
        self.response.topics = []
        self.remaining = 1

    def done(self) -> None:
        """One part is answered; with the last the request is."""
        self.remaining -= 1
        if self.remaining:
            return
        if self.request.version < LEADER_EPOCH_SINCE:
            for topic in self.response.topics:
                for answer in topic.partitions:
                    answer.leader_epoch = -1
        self.request.respond(self.response)


def handle(gateway: "Gateway", request: Request) -> None:
    """Answer each partition."""
    message: ListOffsetsRequest = request.decode()
    pending = _Pending(request)
    times_asked = Counter(
        (topic.name, asked.partition_index) for topic in message.topics for asked in topic.partitions
    )
    for topic in message.topics:
        if not topic.partitions:
            continue
        answers: list[ListOffsetsResponsePartition] = []
        pending.response.topics.append(ListOffsetsResponseTopic(topic.name, answers))
        image = gateway.image.topics_by_name.get(topic.name)
        for asked in {asked.partition_index: asked for asked in topic.partitions}.values():
            answer = ListOffsetsResponsePartition(asked.partition_index)
            answers.append(answer)
            if times_asked[topic.name, asked.partition_index] > 1:
                answer.error_code = INVALID_REQUEST
                continue
            if image is None or not 0 <= asked.partition_index < len(image.partitions):
                answer.error_code = UNKNOWN_TOPIC_OR_PARTITION
                continue
            if message.isolation_level not in ISOLATION_LEVELS:
                answer.error_code = UNKNOWN_SERVER_ERROR  # as Kafka
                continue
            pending.remaining += 1
            partition = gateway.partitions.get(image.name, image.topic_id, asked.partition_index)
            attempt = _attempt(gateway, pending, partition, asked, answer)
            if not partition.held and attempt():
                continue
            if not gateway.partitions.hold(partition, attempt):
                answer.error_code = NOT_LEADER_OR_FOLLOWER
                pending.done()
    pending.done()


def _attempt(
    gateway: "Gateway",
    pending: _Pending,
    partition: Partition,
    asked: ListOffsetsRequestPartition,
    answer: ListOffsetsResponsePartition,
) -> Callable[[], bool]:
    """What answers one partition once it is led; False: not yet."""
    deadline_ms = gateway.now_ms() + HOLD_MS

    def on_completion(entry: Completion) -> None:
        answer.error_code = entry[2]
        answer.offset, answer.timestamp, answer.leader_epoch = entry[3], entry[4], entry[6]
        pending.done()

    def attempt() -> bool:
        late = gateway.now_ms() >= deadline_ms or gateway.partitions.refusal(partition) != NONE
        assigned = partition.assigned
        if assigned is None or not gateway.partitions.is_led(partition):
            if late:
                answer.error_code = partition.error or NOT_LEADER_OR_FOLLOWER
                pending.done()
            return late
        if _from_row(gateway, partition, asked, answer, pending.request.version):
            pending.done()
            return True
        if gateway.outstanding.send(assigned, LOOK_UP, asked.timestamp, 0, 0, on_completion):
            return True
        if late:
            answer.error_code = NOT_LEADER_OR_FOLLOWER
            pending.done()
        return late

    return attempt


def _from_row(
    gateway: "Gateway",
    partition: Partition,
    asked: ListOffsetsRequestPartition,
    answer: ListOffsetsResponsePartition,
    version: int,
) -> bool:
    """Whether the answer is known without the leader."""
    row = gateway.partitions.read_row(partition)
    if row is None:
        answer.error_code = NOT_LEADER_OR_FOLLOWER
        return True
    if row[ROLE] != ROLE_LEADER:
        answer.error_code = KAFKA_STORAGE_ERROR if row[ROLE] == ROLE_OFFLINE else NOT_LEADER_OR_FOLLOWER
        return True
    epoch, wanted = row[LEADER_EPOCH], asked.current_leader_epoch
    if wanted not in (-1, epoch):
        answer.error_code = FENCED_LEADER_EPOCH if wanted < epoch else UNKNOWN_LEADER_EPOCH
        return True
    timestamp = asked.timestamp
    if version < _SINCE.get(timestamp, 1) or timestamp < EARLIEST_PENDING_UPLOAD:
        answer.error_code = UNSUPPORTED_VERSION
    elif timestamp == LATEST:
        answer.offset, answer.leader_epoch = row[HIGH_WATERMARK], epoch
    elif timestamp in (EARLIEST, EARLIEST_LOCAL):
        answer.offset, answer.leader_epoch = row[LOG_START_OFFSET], epoch
    elif timestamp not in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
        return False
    return True
