"""All partitions that one process leads, and the processes of their followers."""

from collections.abc import Iterable
from typing import Protocol

from tailrace.core.errors import KAFKA_STORAGE_ERROR, NOT_LEADER_OR_FOLLOWER
from tailrace.core.replication.downstream import Downstream, Push
from tailrace.core.replication.frames import (
    CONTROL,
    AskEpoch,
    CloseLink,
    EpochEnd,
    FrameError,
    LinkOpened,
    OpenLink,
    decode_control,
)
from tailrace.core.replication.partition import LeaderPartition, TopicPartition

Peer = tuple[int, int]
"""Slot and incarnation of a follower's process."""


class Slots(Protocol):
    """Words in which followers acknowledge: shm.link_slots.LinkSlots."""

    def allocate(self, peer: Peer) -> int | None:
        """A word that holds -1; None if there is none left."""
        ...

    def release(self, number: int) -> None:
        """(R) Its follower stores in it no more: it has said so, or was never told of it."""
        ...

    def release_peer(self, peer: Peer) -> None:
        """(R) That process is dead."""
        ...


class Leaders:
    """What a worker talks to: it hands over frames and moved words, and hears whose high watermark moved."""

    def __init__(self, slots: Slots) -> None:
        self.partitions: dict[TopicPartition, LeaderPartition] = {}
        self.downstreams: dict[Peer, Downstream] = {}
        self._slots = slots
        self._by_number: dict[int, Downstream] = {}
        self._epochs: dict[TopicPartition, int] = {}  # in which it led last

    def may_lead(self, topic_partition: TopicPartition, leader_epoch: int) -> bool:
        """(R) Whether this process has not led in that epoch before: who resigned may have a successor."""
        return leader_epoch > self._epochs.get(topic_partition, -1)

    def lead(self, partition: LeaderPartition) -> None:
        """In its leader epoch, from now on."""
        topic_partition = partition.topic_partition
        assert self.may_lead(topic_partition, partition.leader_epoch)
        self.resign(topic_partition)
        self.partitions[topic_partition] = partition
        self._epochs[topic_partition] = partition.leader_epoch

    def forget(self, topic_partition: TopicPartition) -> None:
        """The partition is gone from this process, and its topic with it."""
        self.resign(topic_partition)
        self._epochs.pop(topic_partition, None)

    def resign(self, topic_partition: TopicPartition) -> None:
        """It is led no more, or not in this epoch; its followers hear of that by the controller."""
        before = self.partitions.pop(topic_partition, None)
        if before is not None:
            before.resign()

    def connect(self, peer: Peer, push: Push, frame_max: int) -> None:
        """There is a ring to that process, which takes frames up to so many bytes."""
        if peer not in self.downstreams:
            self.downstreams[peer] = Downstream(peer, push, frame_max)

    def on_peer_died(self, peer: Peer) -> None:
        """All links to it are gone, and their words are free."""
        downstream = self.downstreams.pop(peer, None)
        if downstream is not None:
            for number, link in downstream.links.items():
                self._drop(downstream, number)
                del self._by_number[number]
                assert not link.is_open
            self._slots.release_peer(peer)

    def on_acks(self, moved: Iterable[tuple[int, int]], now_ms: int) -> set[LeaderPartition]:
        """Words that moved: (number, offset). Returns the partitions whose high watermark did."""
        advanced, by_number, partitions = set[LeaderPartition](), self._by_number, self.partitions
        for number, acked in moved:
            downstream = by_number.get(number)
            if downstream is None:
                continue
            link = downstream.links[number]
            if link.is_open:
                partition = partitions[link.topic_partition]
                if partition.on_ack(link, acked, now_ms):
                    advanced.add(partition)
        return advanced

    def on_frame(self, peer: Peer, frame: bytes) -> None:
        """A frame of a follower's process that is connected. FrameError if none could have sent it."""
        if not frame or frame[0] != CONTROL:
            raise FrameError(f"a frame of {len(frame)} bytes that a follower does not send")
        message, downstream = decode_control(frame), self.downstreams[peer]
        if downstream.is_congested and not isinstance(message, CloseLink):
            return  # it asks without reading; it will ask again
        if isinstance(message, AskEpoch):
            downstream.say(self._answer_epoch(message))
        elif isinstance(message, OpenLink):
            self._open(message, downstream)
        elif isinstance(message, CloseLink):
            if message.link in downstream.links:
                self._drop(downstream, message.link)
                del downstream.links[message.link], self._by_number[message.link]
                self._slots.release(message.link)
        else:
            raise FrameError(f"a follower does not say {message}")

    def _drop(self, downstream: Downstream, number: int) -> None:
        link = downstream.links[number]
        partition = self.partitions.get(link.topic_partition)
        if partition is not None:
            partition.drop(link)

    def _answer_epoch(self, ask: AskEpoch) -> EpochEnd:
        partition = self.partitions.get((ask.topic_id, ask.partition))
        if partition is not None:
            return partition.answer_epoch(ask)
        return EpochEnd(
            topic_id=ask.topic_id, partition=ask.partition, leader_epoch=ask.leader_epoch,
            question=ask.question,
            error=NOT_LEADER_OR_FOLLOWER,
        )  # fmt: skip

    def _open(self, ask: OpenLink, downstream: Downstream) -> None:
        partition = self.partitions.get((ask.topic_id, ask.partition))
        number = self._slots.allocate(downstream.peer) if partition is not None else None
        if partition is None or number is None:
            error = NOT_LEADER_OR_FOLLOWER if partition is None else KAFKA_STORAGE_ERROR
            downstream.say(
                LinkOpened(topic_id=ask.topic_id, partition=ask.partition, leader_epoch=ask.leader_epoch,
                           question=ask.question, error=error)
            )  # fmt: skip
            return
        answer = partition.open_link(ask, downstream, number)
        downstream.say(answer)
        if answer.error:
            self._slots.release(number)
            return
        self._by_number[number] = downstream
        downstream.send(downstream.links[number])
