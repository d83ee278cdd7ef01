"""All partitions that one process follows, and the processes of their leaders."""

from collections.abc import Iterable, Sequence

from tailrace.core.errors import KafkaError
from tailrace.core.replication.downstream import Push
from tailrace.core.replication.follower import ASKING, LINKED, OPENING, FollowerPartition, Read
from tailrace.core.replication.frames import (
    CONTROL,
    HIGH_WATERMARKS,
    INLINE,
    REFERENCE,
    AskEpoch,
    CloseLink,
    Control,
    EpochEnd,
    FrameError,
    LinkBroken,
    LinkOpened,
    OpenLink,
    decode_control,
    decode_data,
    decode_marks,
    encode_control,
)

Peer = tuple[int, int]
"""Slot and incarnation of a leader's process."""
Ack = tuple[Peer, int, int]
"""Whose file of words, which word, and the offset to store in it."""
Refused = tuple[FollowerPartition, KafkaError | OSError]
"""Whose disk refuses, and how."""
Question = AskEpoch | OpenLink | CloseLink
"""What a follower says."""


class Upstream:
    """One process that leads partitions which this one follows."""

    def __init__(self, push: Push) -> None:
        self.links: dict[int, FollowerPartition] = {}
        self._push = push
        self._unsaid: dict[int | tuple[bytes, int], bytes] = {}  # by link that is closed, or who asks

    def say(self, message: Question) -> None:
        """Now, or when there is room in the ring."""
        frame = encode_control(message)
        if self._unsaid or not self._push(frame):
            key = message.link if isinstance(message, CloseLink) else (message.topic_id, message.partition)
            self._unsaid.pop(
                key, None
            )  # only what a partition asked last: its leader may stand still for long
            self._unsaid[key] = frame

    def say_waiting(self) -> bool:
        """The ring may have room again. Returns whether all is said."""
        for key, frame in list(self._unsaid.items()):
            if not self._push(frame):
                return False
            del self._unsaid[key]
        return True


class Followers:
    """What a worker talks to: it hands over frames, then stores acknowledgements in the leaders' words."""

    def __init__(self) -> None:
        self.partitions: dict[tuple[bytes, int], FollowerPartition] = {}
        self.upstreams: dict[Peer, Upstream] = {}
        self._peers: dict[FollowerPartition, Peer] = {}
        self._waiting: set[FollowerPartition] = set()  # for answers, or to ask again
        self._copying: dict[FollowerPartition, None] = {}
        self._touched: set[FollowerPartition] = set()

    def add(self, partition: FollowerPartition) -> None:
        """It follows nobody yet."""
        self.partitions[partition.topic_partition] = partition

    def remove(self, topic_partition: tuple[bytes, int]) -> None:
        """It is to lead, or to go."""
        partition = self.partitions.pop(topic_partition, None)
        if partition is not None:
            self._unlink(partition)
            partition.leave()
            self._peers.pop(partition, None)
            for some in (self._waiting, self._touched):
                some.discard(partition)
            self._copying.pop(partition, None)

    def connect(self, peer: Peer, push: Push) -> None:
        """There is a ring to that process."""
        if peer not in self.upstreams:
            self.upstreams[peer] = Upstream(push)

    def follow(self, topic_partition: tuple[bytes, int], leader_epoch: int, peer: Peer, now_ms: int) -> None:
        """Its leader in this epoch is that process, which is connected; older epochs are no news."""
        partition = self.partitions[topic_partition]
        if leader_epoch < partition.leader_epoch:
            return
        self._unlink(partition)
        self._peers[partition] = peer
        partition.follow(leader_epoch, self.upstreams[peer].say, now_ms)
        self._sort(partition)

    def leave(self, topic_partition: tuple[bytes, int]) -> None:
        """It follows nobody until it is told whom: its leader leads no more."""
        partition = self.partitions[topic_partition]
        self._unlink(partition)
        partition.leave()
        self._peers.pop(partition, None)
        self._sort(partition)

    def on_peer_died(self, peer: Peer) -> None:
        """Its partitions wait for a leader."""
        if self.upstreams.pop(peer, None) is None:
            return
        for partition in [one for one, at in self._peers.items() if at == peer]:
            partition.leave(leader_died=True)
            del self._peers[partition]
            self._sort(partition)

    def on_frame(self, peer: Peer, frame: bytes, now_ms: int) -> Sequence[Refused]:
        """A frame of a leader's process; returns whose disks refuse. FrameError if no leader could have sent
        it.
        """
        upstream = self.upstreams[peer]
        kind = frame[0] if frame else 0
        if kind in (INLINE, REFERENCE):
            header = decode_data(frame)
            partition = upstream.links.get(header[2])
            if partition is None:  # of a link that was closed meanwhile
                return ()
            try:
                if partition.on_data(header, frame, now_ms):
                    self._touched.add(partition)
            except (KafkaError, OSError) as error:
                return [(partition, error)]
            if partition.state != LINKED:
                self._lost(partition, upstream, header[2])
            elif partition.is_copying:
                self._copying[partition] = None
        elif kind == CONTROL:
            return self._on_control(decode_control(frame), upstream, peer, now_ms)
        elif kind == HIGH_WATERMARKS:
            return self._on_marks(frame, upstream, now_ms)
        else:
            raise FrameError(f"a frame of {len(frame)} bytes that a leader does not send")
        return ()

    def _on_marks(self, frame: bytes, upstream: Upstream, now_ms: int) -> list[Refused]:
        """One whose disk refuses to delete what its leader deleted does not keep the others from theirs."""
        refused: list[Refused] = []
        for number, mark, start in decode_marks(frame):
            partition = upstream.links.get(number)
            if partition is None:
                continue
            self._touched.add(partition)
            try:
                partition.on_mark(mark, start, now_ms)
            except (KafkaError, OSError) as error:
                refused.append((partition, error))
        return refused

    def _on_control(self, message: Control, upstream: Upstream, peer: Peer, now_ms: int) -> Sequence[Refused]:
        if isinstance(message, LinkBroken):
            partition = upstream.links.get(message.link)
            if partition is not None:
                partition.begin_again("the leader has let go of what comes next", now_ms)
                self._lost(partition, upstream, message.link)
            return ()
        if not isinstance(message, EpochEnd | LinkOpened):
            raise FrameError(f"a leader does not say {message}")
        partition = self.partitions.get((message.topic_id, message.partition))
        if partition is None or self._peers.get(partition) != peer:
            if isinstance(message, LinkOpened) and not message.error:
                upstream.say(CloseLink(link=message.link))
            return ()
        try:
            if isinstance(message, EpochEnd):
                partition.on_epoch_end(message, now_ms)
            elif partition.on_link_opened(message, now_ms):
                upstream.links[partition.link] = partition
        except (KafkaError, OSError) as error:
            return [(partition, error)]
        self._touched.add(partition)
        self._sort(partition)
        return ()

    def _lost(self, partition: FollowerPartition, upstream: Upstream, number: int) -> None:
        upstream.links.pop(number, None)
        self._sort(partition)

    def _unlink(self, partition: FollowerPartition) -> None:
        """(R) Before it truncates: no frame and no acknowledgement of the old link any more."""
        peer = self._peers.get(partition)
        if peer is not None and partition.link >= 0:
            self.upstreams[peer].links.pop(partition.link, None)

    def _sort(self, partition: FollowerPartition) -> None:
        if partition.state in (ASKING, OPENING):
            self._waiting.add(partition)
        else:
            self._waiting.discard(partition)
        if not partition.is_copying:
            self._copying.pop(partition, None)

    # A turn

    @property
    def is_copying(self) -> bool:
        """Whether `copy` has work."""
        return bool(self._copying)

    def copy(self, partition: FollowerPartition, read: Read, budget: int, now_ms: int) -> int:
        """One of `copying`: see FollowerPartition.copy."""
        number, peer = partition.link, self._peers[partition]
        copied = partition.copy(read, budget, now_ms)
        self._touched.add(partition)
        if partition.state != LINKED:
            self._lost(partition, self.upstreams[peer], number)
        self._sort(partition)
        if partition in self._copying:  # in turn with the others
            self._copying[partition] = self._copying.pop(partition)
        return copied

    def copying(self) -> list[tuple[FollowerPartition, Peer]]:
        """Those with something to be copied, longest waiting first, and whose leader's files it is in."""
        return [(partition, self._peers[partition]) for partition in self._copying]

    @property
    def is_touched(self) -> bool:
        """Whether `take_touched` has something."""
        return bool(self._touched)

    def take_touched(self) -> list[FollowerPartition]:
        """Whose rows are to be published."""
        touched, self._touched = self._touched, set()
        return list(touched)

    def acks(self, shown: Iterable[FollowerPartition]) -> list[Ack]:
        """What is to be stored in the leaders' words, of those whose rows show it."""
        found = [(partition, partition.ack) for partition in shown]
        return [(self._peers[one], one.link, ack) for one, ack in found if ack >= 0]

    def synced(self, partition: FollowerPartition) -> None:
        """More of its log is on the disk."""
        self._touched.add(partition)

    def tick(self, now_ms: int) -> None:
        """Questions that are to be asked again, also those that the ring had no room for."""
        for upstream in self.upstreams.values():
            upstream.say_waiting()
        for partition in list(self._waiting):
            partition.tick(now_ms)
            self._sort(partition)

    def next_due_ms(self) -> int | None:
        """When `tick` has something to ask again."""
        return min((partition.due_ms for partition in self._waiting), default=None)
