"""One partition as a follower has it: where to truncate, what to take, what to acknowledge.

    follow -> asking   where the last epoch ended at the leader; truncates there, perhaps in several rounds
           -> opening  "I end here"
           -> linked   takes what comes; acknowledges in the word of its link

Rules (R), each with a test:
- whoever follows anew acknowledges nothing before it has truncated, and never again in its former word;
- a frame is taken at the end of the log only; whatever does not fit begins again at asking;
- `shown_epoch`, which its row shows beside its high watermark, is the leader epoch that it has truncated by,
  never one that it has only heard of (see high_watermark.py);
- the high watermark is at most the own end, and never moves back but for a truncation.

Divergence is resolved as in Kafka: the leader names the largest epoch that it knows and that is not above
ours, and where that ends. If we know that epoch, the end is the smaller of both; else what we have above the
next older one is not the leader's, and we ask again with that.
"""

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from tailrace.core.errors import (
    CORRUPT_MESSAGE,
    FENCED_LEADER_EPOCH,
    NONE,
    OFFSET_OUT_OF_RANGE,
    KafkaError,
)
from tailrace.core.log.directory import is_full
from tailrace.core.records.batch import HEADER_SIZE, stated_size, whole_batches
from tailrace.core.replication.frames import (
    DATA_BYTES,
    GAPS,
    INLINE,
    AskEpoch,
    CloseLink,
    DataFrame,
    EpochEnd,
    LinkOpened,
    OpenLink,
)
from tailrace.core.replication.places import Places
from tailrace.core.replication.replicated_log import ReplicatedLog

RETRY_MS = (5, 10, 20, 50, 100, 200)  # between two tries, the last one for ever
ANSWER_MS = 1000  # until a question that nobody answers is asked again
COPY_BYTES = 256 * 1024  # read from the leader's file at once
COPY_BYTES_MIN = 16 * 1024  # also of one that is to copy less
MISFITS = (OFFSET_OUT_OF_RANGE, CORRUPT_MESSAGE, FENCED_LEADER_EPOCH)  # not the disk's fault

Read = Callable[[int, int, int], bytes]
"""(segment, position, length) -> bytes of the leader's file, fewer if it has no more, none if it is gone."""

IDLE, ASKING, OPENING, LINKED = range(4)


class Range(Struct):
    """Bytes of a segment of the leader's, to be copied."""

    segment: int
    position: int
    end: int
    end_offset: int
    has_gaps: bool


class FollowerPartition:
    """See the module. KafkaError from any method: the own disk refuses, the replica is out of service."""

    def __init__(
        self, topic_partition: tuple[bytes, int], replica_id: int, log: ReplicatedLog, *,
        shown_epoch: int = -1, counts_synced: bool = False,
    ) -> None:  # fmt: skip
        """shown_epoch: what its row shows. counts_synced: only what is on the disk is acknowledged."""
        self.topic_partition, self.replica_id, self.log = topic_partition, replica_id, log
        self.places = Places(log)
        self.shown_epoch, self._counts_synced = shown_epoch, counts_synced
        self.leader_epoch = -1
        self.state = IDLE
        self.link = -1
        self.fault = ""  # why it last began again
        self.due_ms = 0  # when it asks again, unless it is idle or linked
        self._say: Callable[[AskEpoch | OpenLink | CloseLink], object] = lambda _: None
        self._question = 0  # of which an answer is awaited
        self._tries = 0
        self.next_offset = 0  # where the next frame begins: the end of the log, and of all ranges
        self._mark = 0  # the leader's high watermark
        self._ranges: deque[Range] = deque()  # one a segment of the leader's

    @property
    def ack(self) -> int:
        """What to store in the word of the link; -1: nothing."""
        if self.state != LINKED:
            return -1
        log = self.log
        return min(log.recovery_point, log.log_end_offset) if self._counts_synced else log.log_end_offset

    @property
    def is_copying(self) -> bool:
        """Whether `copy` has work."""
        return bool(self._ranges)

    # Whom to follow

    def follow(
        self, leader_epoch: int, say: Callable[[AskEpoch | OpenLink | CloseLink], object], now_ms: int
    ) -> None:
        """The leader of this epoch is at the other end of `say`. (R) The former word is stored to no more."""
        self.leave()
        self.leader_epoch, self._say, self._tries = leader_epoch, say, 0
        self._ask(now_ms)

    def leave(self, *, leader_died: bool = False) -> None:
        """Follows nobody, until it is told whom."""
        if self.link >= 0 and not leader_died:
            self._say(CloseLink(link=self.link))
        self.link, self.state = -1, IDLE
        self._ranges.clear()

    def tick(self, now_ms: int) -> None:
        """Asks again, if that is due."""
        if self.state in (ASKING, OPENING) and now_ms >= self.due_ms:
            self._ask(now_ms)

    def begin_again(self, fault: str, now_ms: int) -> None:
        """Something does not fit: ask where it does, a little later."""
        self.leave()
        self.fault, self.state = fault, ASKING
        self._question += 1
        self._wait(now_ms)

    def _wait(self, now_ms: int) -> None:
        self.due_ms = now_ms + RETRY_MS[min(self._tries, len(RETRY_MS) - 1)]
        self._tries += 1

    # Where to truncate

    def _ask(self, now_ms: int) -> None:
        log = self.log
        self.due_ms = now_ms + ANSWER_MS
        self._question += 1
        epoch = log.leader_epochs.latest
        if epoch >= 0:
            self.state = ASKING
            self._say(
                AskEpoch(
                    topic_id=self.topic_partition[0], partition=self.topic_partition[1],
                    leader_epoch=self.leader_epoch, replica_id=self.replica_id,
                    question=self._question, epoch=epoch,
                )
            )  # fmt: skip
            return
        self._truncate(
            log.high_watermark, now_ms
        )  # no epochs, as in old logs: what is committed is the leader's
        self._open()

    def on_epoch_end(self, answer: EpochEnd, now_ms: int) -> None:
        """To the last question."""
        current = answer.leader_epoch == self.leader_epoch and answer.question == self._question
        if self.state != ASKING or not current:
            return
        log = self.log
        if answer.error:
            self._wait(now_ms)
            return
        if answer.end_offset < 0:  # it knows nothing that old
            self._truncate(log.high_watermark, now_ms)
        elif answer.epoch < 0:
            self._truncate(answer.end_offset, now_ms)
        else:
            known, end = log.epoch_end_offset(answer.epoch)
            if known < 0:  # we have nothing that old
                end = answer.end_offset
            elif known != answer.epoch:
                self._truncate(end, now_ms)
                self._ask(now_ms)
                return
            self._truncate(min(end, answer.end_offset), now_ms)
        self._open()

    def _truncate(self, offset: int, now_ms: int) -> None:
        log = self.log
        if offset >= log.log_end_offset:
            return
        self.places.forget()
        if offset < log.log_start_offset:
            log.truncate_fully_and_start_at(offset, now_ms)
        else:
            log.truncate_to(offset, now_ms)
        log.high_watermark = min(log.high_watermark, log.log_end_offset)

    def _open(self) -> None:
        if self.shown_epoch < 0:
            # (R) after a full stop its checkpoint may be above what the others still have, and so above what
            # the leader of today can promise
            self.log.high_watermark = self.log.log_start_offset
        self.shown_epoch = self.leader_epoch  # (R) not before it has truncated
        self.state = OPENING
        self._question += 1
        self._say(
            OpenLink(
                topic_id=self.topic_partition[0], partition=self.topic_partition[1],
                leader_epoch=self.leader_epoch, replica_id=self.replica_id,
                question=self._question, log_end_offset=self.log.log_end_offset,
            )
        )  # fmt: skip

    def on_link_opened(self, answer: LinkOpened, now_ms: int) -> bool:
        """To OpenLink. Returns whether it is linked by that."""
        log, start = self.log, answer.log_start_offset
        current = answer.leader_epoch == self.leader_epoch and answer.question == self._question
        if self.state != OPENING or not current:
            if not answer.error:  # (R) or the leader would keep the word for ever
                self._say(CloseLink(link=answer.link))
            return False
        if answer.error == NONE:
            self.link, self.state, self.next_offset = answer.link, LINKED, log.log_end_offset
            self._mark = 0
            self._learn(answer.high_watermark, start, now_ms)
            return True
        if answer.error == OFFSET_OUT_OF_RANGE and start > log.log_end_offset:
            self.places.forget()
            log.truncate_fully_and_start_at(start, now_ms)  # as Kafka: retention has taken what we lack
            log.high_watermark = start
        self.state = ASKING
        self._wait(now_ms)
        return False

    # What comes on the link

    def on_data(self, header: DataFrame, frame: bytes, now_ms: int) -> bool:
        """A data frame of this link. Returns whether the log or what it knows has moved."""
        kind, flags, _, base, end, segment, position, length, mark, start = header
        if base != self.next_offset:  # (R) one is missing, or came twice
            self.begin_again(f"a frame begins at {base}, {self.next_offset} is next", now_ms)
            return False
        self.next_offset = end
        if kind == INLINE and not self._ranges:
            log, has_gaps = self.log, bool(flags & GAPS)
            if self._append(memoryview(frame)[DATA_BYTES:], has_gaps, now_ms) != length:
                self.begin_again(self.fault or "a frame does not hold whole batches", now_ms)
            elif log.log_end_offset == end or self._ends_at(end, has_gaps, now_ms):
                self._tries = 0
                self.places.note()
                if mark > self._mark or start > log.log_start_offset:
                    self._learn(mark, start, now_ms)
                elif self._mark > log.high_watermark:
                    self._move()
            return True
        last = self._ranges[-1] if self._ranges else None
        if last is not None and (last.segment, last.end) == (segment, position):
            last.end, last.end_offset = position + length, end
        else:
            self._ranges.append(Range(segment, position, position + length, end, bool(flags & GAPS)))
        self._mark = max(self._mark, mark)
        return False

    def copy(self, read: Read, budget: int, now_ms: int) -> int:
        """Takes at most about `budget` bytes from the leader's files. Returns how many."""
        copied = 0
        while self._ranges and copied < budget:
            place = self._ranges[0]
            want = min(COPY_BYTES, place.end - place.position, max(budget - copied, COPY_BYTES_MIN))
            data = read(place.segment, place.position, want)
            done = self._append(memoryview(data), place.has_gaps, now_ms)
            if not done and len(data) >= HEADER_SIZE and not self.fault:
                size = stated_size(data)
                if want < size <= place.end - place.position:  # larger than what is read at once
                    data = read(place.segment, place.position, size)
                    done = self._append(memoryview(data), place.has_gaps, now_ms)
            if not done:
                self.begin_again(self.fault or f"no batch at {place}", now_ms)
                return copied
            copied += done
            place.position += done
            if place.position == place.end:
                self._ranges.popleft()
                if not self._ends_at(place.end_offset, place.has_gaps, now_ms):
                    return copied
            self._tries = 0
            self.places.note()
            self._move()
        return copied

    def _append(self, data: memoryview, has_gaps: bool, now_ms: int) -> int:
        """The whole batches in it; returns how many bytes they are. `fault` says what was refused."""
        self.fault = ""
        done = 0
        try:
            for batch in whole_batches(data):
                self.log.append_as_follower(batch, now_ms, allow_gap=has_gaps)
                done += len(batch)
        except KafkaError as error:
            if error.code not in MISFITS and not is_full(error):  # of a full disk the leader is asked again
                raise
            self.fault = str(error)
        return done

    def _ends_at(self, end_offset: int, has_gaps: bool, now_ms: int) -> bool:
        """(R) Whether the frame ended where it said, but for offsets that compaction took."""
        end = self.log.log_end_offset
        if end == end_offset or (has_gaps and end < end_offset):
            return True
        self.begin_again(f"a frame that ends at {end_offset} ended at {end}", now_ms)
        return False

    def on_mark(self, mark: int, start: int, now_ms: int) -> None:
        """The leader's high watermark and log start offset."""
        self._learn(mark, start, now_ms)

    def _learn(self, mark: int, start: int, now_ms: int) -> None:
        log = self.log
        self._mark = max(self._mark, mark)
        self._move()
        start = min(start, log.high_watermark)
        if start > log.log_start_offset:
            log.delete_records_before(start, now_ms)

    def _move(self) -> None:
        log = self.log
        mark = min(self._mark, log.log_end_offset)
        if mark > log.high_watermark:
            log.high_watermark = mark
