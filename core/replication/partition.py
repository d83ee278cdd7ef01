"""One partition as its leader has it, in one leader epoch.

Rules (R), each with a test:
- who asks in another leader epoch gets neither an answer nor a link;
- a link is made once the follower has truncated, and what is acknowledged elsewhere does not count;
- a new leader epoch, also of the same leader, is a new LeaderPartition, without links.
"""

from tailrace.core.errors import (
    FENCED_LEADER_EPOCH,
    KAFKA_STORAGE_ERROR,
    NONE,
    OFFSET_OUT_OF_RANGE,
    UNKNOWN_LEADER_EPOCH,
    UNKNOWN_TOPIC_OR_PARTITION,
    KafkaError,
)
from tailrace.core.replication.downstream import Downstream, Link
from tailrace.core.replication.frames import AskEpoch, EpochEnd, LinkOpened, OpenLink
from tailrace.core.replication.isr import InSync, PartitionState, Proposal
from tailrace.core.replication.places import Places
from tailrace.core.replication.replicated_log import ReplicatedLog

TopicPartition = tuple[bytes, int]
"""Topic id and index."""


class LeaderPartition:
    """See the module. `log.high_watermark` follows that of `in_sync`, which its owner shows to readers."""

    def __init__(
        self, topic_partition: TopicPartition, log: ReplicatedLog, in_sync: InSync, *,
        counts_synced: bool = False, has_gaps: bool = False,
    ) -> None:  # fmt: skip
        """counts_synced: only what is on the disk is committed (flush.policy). has_gaps: of a topic that is
        compacted.
        """
        self.topic_partition, self.log, self.in_sync = topic_partition, log, in_sync
        self.leader_epoch = in_sync.leader_epoch
        self.places = Places(log)
        self._counts_synced, self._has_gaps = counts_synced, has_gaps
        self._links: dict[int, Link] = {}  # by replica
        self._sent_to = -1  # the end of the log as `replicate` met it
        log.high_watermark = in_sync.high_watermark
        self.append_local()

    def append_local(self) -> bool:
        """The log has grown, or was synced. Returns whether the high watermark moved."""
        log = self.log
        end = log.log_end_offset
        local_end = min(log.recovery_point, end) if self._counts_synced else end
        return self.in_sync.on_append(end, local_end) and self._moved()

    def replicate(self) -> bool:
        """After a run of appends: sends them to all followers. Returns whether the high watermark moved."""
        if self.log.log_end_offset == self._sent_to:
            return False
        self._sent_to = self.log.log_end_offset
        self.places.note()
        moved = self.append_local()
        for link in self._links.values():
            link.downstream.send(link)
        return moved

    def on_shown(self) -> None:
        """The own row shows the high watermark. (R) Followers hear of it only then: who leads next goes by
        the rows, and no reader of a follower has seen more.
        """
        in_sync = self.in_sync
        if in_sync.shown != in_sync.high_watermark:
            in_sync.shown = in_sync.high_watermark
            for link in self._links.values():  # also one that was opened since it moved
                link.downstream.marks(link)

    def on_start_moved(self) -> None:
        """Records were deleted: the followers shall delete them, too."""
        for link in self._links.values():
            link.downstream.marks(link)

    def on_ack(self, link: Link, acked: int, now_ms: int) -> bool:
        """A word has moved. Returns whether the high watermark moved."""
        if not link.is_open:  # (R) of a link that was, it may say what the follower had before it truncated
            return False
        return self.in_sync.on_ack(link.replica_id, acked, now_ms) and self._moved()

    def adopt(self, state: PartitionState, now_ms: int) -> bool:
        """The controller has committed this. Returns whether the high watermark moved."""
        moved = self.in_sync.adopt(state, now_ms)
        self._drop_removed()
        return moved and self._moved()

    def on_answer(self, proposal: Proposal, error: int, state: PartitionState | None, now_ms: int) -> bool:
        """What the controller says to a proposal of `in_sync`. Returns whether the high watermark moved."""
        moved = self.in_sync.on_answer(proposal, error, state, now_ms)
        self._drop_removed()
        return moved and self._moved()

    def _drop_removed(self) -> None:
        for link in list(self._links.values()):
            if link.replica_id not in self.in_sync.followers:
                self.drop(link)

    def _moved(self) -> bool:
        self.log.high_watermark = self.in_sync.high_watermark
        return True

    # What followers ask

    def answer_epoch(self, ask: AskEpoch) -> EpochEnd:
        """Where the follower's last epoch ended here."""
        error = self._refusal(ask.leader_epoch, ask.replica_id)
        epoch, end_offset = -1, -1
        if not error:
            epoch, end_offset = self.log.epoch_end_offset(ask.epoch, self.leader_epoch)
        return EpochEnd(
            topic_id=ask.topic_id, partition=ask.partition, leader_epoch=ask.leader_epoch,
            question=ask.question,
            error=error, epoch=epoch, end_offset=end_offset,
        )  # fmt: skip

    def open_link(self, ask: OpenLink, downstream: Downstream, number: int) -> LinkOpened:
        """A link under this number, whose word holds -1. `send` comes after the answer is said."""
        error = self._refusal(ask.leader_epoch, ask.replica_id)
        log, offset = self.log, ask.log_end_offset
        if not error and not log.log_start_offset <= offset <= log.log_end_offset:
            error = OFFSET_OUT_OF_RANGE
        if not error:
            try:
                link = Link(
                    number, ask.replica_id, self.topic_partition, log, self.in_sync, downstream, offset,
                    self._has_gaps,
                )  # fmt: skip
            except KafkaError:  # retention is at it; the follower asks again
                error = KAFKA_STORAGE_ERROR
            else:
                before = self._links.get(ask.replica_id)
                if before is not None:  # of an incarnation that has died just now
                    self.drop(before)
                self._links[ask.replica_id] = downstream.links[number] = link
        return LinkOpened(
            topic_id=ask.topic_id, partition=ask.partition, leader_epoch=ask.leader_epoch,
            question=ask.question,
            error=error, link=-1 if error else number, high_watermark=self.in_sync.shown,
            log_start_offset=log.log_start_offset,
        )  # fmt: skip

    def _refusal(self, leader_epoch: int, replica_id: int) -> int:
        if leader_epoch != self.leader_epoch:
            return FENCED_LEADER_EPOCH if leader_epoch < self.leader_epoch else UNKNOWN_LEADER_EPOCH
        return NONE if replica_id in self.in_sync.followers else UNKNOWN_TOPIC_OR_PARTITION

    def drop(self, link: Link) -> None:
        """The follower's process is dead, or it has closed the link; also one of an earlier epoch."""
        link.downstream.close(link)
        if self._links.get(link.replica_id) is link:
            del self._links[link.replica_id]
            self.in_sync.on_link_lost(link.replica_id)

    def resign(self) -> None:
        """Another leads, or the same in a new epoch. (R) No acknowledgement of its links counts any more."""
        for link in list(self._links.values()):
            self.drop(link)
