"""The leader's end of a pair of processes: what goes to one follower process, for all partitions of the pair.

A link knows up to which place of the leader's log it has sent. All between that and the end is sent with the
next frame: the bytes themselves where they are few and just written, else a reference to the leader's
file, which the follower reads. So a follower that starts far behind, one that was stopped while the ring was
full, and one that keeps up are the same case. A ring that is full never blocks (R): the link is lapped, and
goes on from where it was once there is room.
"""

from collections import deque
from collections.abc import Callable

from tailrace.core.replication.frames import (
    DATA_BYTES,
    GAPS,
    INLINE,
    INLINE_MAX,
    MARK_BYTES,
    MARKS_HEAD_BYTES,
    MARKS_MAX,
    REFERENCE,
    UNSAID_MAX,
    Control,
    LinkBroken,
    encode_control,
    encode_marks,
    pack_data,
)
from tailrace.core.replication.isr import InSync
from tailrace.core.replication.replicated_log import ReplicatedLog

Push = Callable[[bytes], bool]
"""Puts a frame into the ring to the follower's process; False when that is full."""


class Link:
    """One partition to one follower, in one leader epoch, between two incarnations of processes."""

    __slots__ = ("downstream", "flags", "in_sync", "is_open", "log", "number", "offset", "position",
                 "replica_id", "segment", "told", "told_start", "topic_partition")  # fmt: skip

    def __init__(
        self, number: int, replica_id: int, topic_partition: tuple[bytes, int], log: ReplicatedLog,
        in_sync: InSync, downstream: "Downstream", offset: int, has_gaps: bool,
    ) -> None:  # fmt: skip
        """KafkaError if that is no offset of the log, or cannot be found."""
        self.number, self.replica_id, self.topic_partition = number, replica_id, topic_partition
        self.log, self.in_sync, self.downstream = log, in_sync, downstream
        self.flags = GAPS if has_gaps else 0
        self.is_open = True
        self.told, self.told_start = in_sync.shown, log.log_start_offset  # by LinkOpened
        self.offset = offset
        self.segment, self.position = log.place_of(offset)  # what is sent ends here

    @property
    def is_behind(self) -> bool:
        """Whether the follower has yet to hear of a high watermark that is shown or of a log start offset."""
        return self.told < self.in_sync.shown or self.told_start < self.log.log_start_offset


class Downstream:
    """See the module. `peer` names the pair of incarnations to whoever owns this."""

    def __init__(self, peer: tuple[int, int], push: Push, frame_max: int) -> None:
        """frame_max: bytes that an empty ring takes for sure, at least those of a control frame."""
        self.peer = peer
        self._inline_max = min(INLINE_MAX, frame_max - DATA_BYTES)
        self._marks_max = min(MARKS_MAX, (frame_max - MARKS_HEAD_BYTES) // MARK_BYTES)
        self.links: dict[int, Link] = {}  # by number; closed ones too, until the follower says so
        self._push = push
        self._unsaid: deque[bytes] = deque()  # control frames, see is_congested
        self._lapped: dict[Link, None] = {}
        self._marks: dict[Link, None] = {}

    @property
    def is_waiting(self) -> bool:
        """Whether something waits for room in the ring."""
        return bool(self._unsaid or self._lapped)

    @property
    def is_congested(self) -> bool:
        """Whether the follower asks without reading: its questions are dropped for now."""
        return len(self._unsaid) >= UNSAID_MAX

    def say(self, message: Control) -> None:
        """Before anything that is sent later."""
        frame = encode_control(message)
        if self._unsaid or not self._push(frame):
            self._unsaid.append(frame)

    def send(self, link: Link) -> None:
        """All that the log has and the link has not sent yet."""
        log = link.log
        while link.offset < log.log_end_offset:
            if self._unsaid or not self._send_piece(link, log):  # (R) LinkOpened comes first
                if link.is_open:
                    self._lapped[link] = None
                return

    def _send_piece(self, link: Link, log: ReplicatedLog) -> bool:
        """One frame, of one segment. False: no room, or nothing to send it from."""
        segment, position = link.segment, link.position
        if segment == log.active_base_offset:
            end, end_offset, next_segment = log.active_position, log.log_end_offset, segment
        else:
            found = self._older(link, log)
            if found is None:
                return False
            end, next_segment = found
            end_offset = next_segment
            if position == end:
                link.segment, link.position = next_segment, 0
                return True
        length, mark = end - position, link.in_sync.shown
        kind = INLINE if length <= self._inline_max and next_segment == segment else REFERENCE
        frame = pack_data(
            kind, link.flags, link.number, link.offset, end_offset, segment, position, length, mark,
            log.log_start_offset,
        )  # fmt: skip
        if not self._push(frame + log.stored(position, end) if kind == INLINE else frame):
            return False
        link.told, link.told_start, link.offset = mark, log.log_start_offset, end_offset
        link.segment, link.position = next_segment, end if next_segment == segment else 0
        return True

    def _older(self, link: Link, log: ReplicatedLog) -> tuple[int, int] | None:
        """Size of a segment that is not the active one, and the base offset of the next."""
        segments = log.segments
        for number, segment in enumerate(segments[:-1]):
            if segment.base_offset == link.segment:
                return segment.size, segments[number + 1].base_offset
        self.close(link)  # retention or compaction took it
        self.say(LinkBroken(link=link.number))
        return None

    def marks(self, link: Link) -> None:
        """A high watermark is shown, or the log's start has moved: the follower hears of it with the next
        data, or by `say_marks`.
        """
        self._marks[link] = None

    def behind(self) -> list[Link]:
        """The links whose follower has yet to hear of what has moved."""
        return [link for link in self._marks if link.is_open and link.is_behind]

    def say_marks(self) -> None:
        """High watermarks that no data frame has told: not each turn, for the next data is soon there."""
        due, self._marks = self.behind(), {}
        while due:
            some, due = due[: self._marks_max], due[self._marks_max :]
            said = [(link.number, link.in_sync.shown, link.log.log_start_offset) for link in some]
            if self._unsaid or not self._push(encode_marks(said)):
                self._marks.update(dict.fromkeys([*some, *due]))
                return
            for link, (_, mark, start) in zip(some, said, strict=True):
                link.told, link.told_start = mark, start

    def send_waiting(self) -> None:
        """The ring may have room again."""
        while self._unsaid:
            if not self._push(self._unsaid[0]):
                return
            self._unsaid.popleft()
        lapped, self._lapped = self._lapped, {}
        for number, link in enumerate(lapped):
            self.send(link)
            if link in self._lapped:
                self._lapped.update(dict.fromkeys(list(lapped)[number + 1 :]))
                return

    def close(self, link: Link) -> None:
        """Nothing more is sent on it. (R) Its number stays taken: the follower may yet store in its word."""
        link.is_open = False
        self._lapped.pop(link, None)
        self._marks.pop(link, None)
