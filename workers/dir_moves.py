"""Replicas that move between the log directories of their broker, as the controller has it: which are to,
when the worker that has one shall let go of the old log, and the commit of the new directory.

(R) The directory is committed while nobody appends: the worker has answered CompleteMove, and was given no
order since. Where it cannot be committed, the next order has the old log served again.

What is asked for lives as long as the controllers and workers: a start goes on by the copies that it finds.
"""

from collections.abc import Callable, Iterable

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.metadata.directories import replica_moved
from tailrace.core.metadata.requests import PartitionResult
from tailrace.core.metadata.throttles import move_rate
from tailrace.workers.assignments import Assignments
from tailrace.workers.changes import Changes
from tailrace.workers.control_moves import CompleteMove, CopyMade, MoveEnded, MoveReplicas
from tailrace.workers.orders import Replica
from tailrace.workers.process import Broker, ProcessContext

WISHES_MAX = 10_000  # of replicas that are still to be made; the oldest go


class DirMoves:
    """All of the host. `serve_again` has leaders that have resigned lead on, in an epoch of their own."""

    def __init__(
        self,
        context: ProcessContext,
        changes: Changes,
        assignments: Assignments,
        serve_again: Callable[[list[Replica]], object],
    ) -> None:
        self._context = context
        self._changes = changes
        self._assignments = assignments
        self._serve_again = serve_again
        changes.on_rates = self.share_rates

    # What is asked.

    def begin(self, asked: Broker, request: MoveReplicas) -> list[PartitionResult]:
        """Of each whether its move has begun, or none is needed."""
        results = [
            PartitionResult(
                topic=topic, partition=index, error_code=self._begin_one(asked, topic, index, log_dir)
            )
            for topic, index, log_dir in request.moves
        ]
        self.share_rates()
        return results

    def _begin_one(self, asked: Broker, name: str, index: int, log_dir: str) -> int:
        topic = self._changes.image.topics_by_name.get(name)
        if topic is None or not 0 <= index < len(topic.partitions):
            return errors.UNKNOWN_TOPIC_OR_PARTITION
        if not asked.log_dirs.is_online(log_dir):
            return errors.KAFKA_STORAGE_ERROR
        key = (topic.topic_id, index, asked.node_id)
        replica = self._assignments.by_key.get(key)
        if replica is None:
            self._wish(asked, key, log_dir)
            return errors.REPLICA_NOT_AVAILABLE
        if replica.offline_code:
            return errors.KAFKA_STORAGE_ERROR
        self._set(replica, "" if log_dir == replica.log_dir else log_dir)
        return errors.NONE

    def _wish(self, asked: Broker, key: tuple[bytes, int, int], log_dir: str) -> None:
        """As Kafka: the replica is made there, should it come."""
        wished = self._changes.wished_dirs
        wished.pop(key, None)
        wished[key] = asked.log_dirs.id_of(log_dir)
        while len(wished) > WISHES_MAX:
            del wished[next(iter(wished))]

    def _set(self, replica: Replica, log_dir: str) -> None:
        if replica.future_log_dir != log_dir:
            replica.future_log_dir, replica.future_rate = log_dir, 0
            self._assignments.tell_again(replica)

    def share_rates(self) -> None:
        """Each that moves has an equal part of its broker's rate."""
        moving: dict[int, list[Replica]] = {}
        for replica in self._assignments.by_key.values():
            if replica.future_log_dir:
                moving.setdefault(replica.broker, []).append(replica)
        for broker, replicas in moving.items():
            rate = move_rate(self._changes.image, broker, len(replicas))
            for replica in replicas:
                if replica.future_rate != rate:
                    replica.future_rate = rate
                    self._assignments.tell_again(replica)

    def resume(self, found: Iterable[tuple[tuple[bytes, int, int], str]]) -> None:
        """Moves that the last run did not bring to an end: replicas, and where to."""
        for key, log_dir in found:
            replica = self._assignments.by_key.get(key)
            if replica is not None and not replica.offline_code and log_dir != replica.log_dir:
                self._set(replica, log_dir)
        self.share_rates()

    # What workers say.

    def on_copied(self, slot: int, incarnation: int, message: CopyMade) -> None:
        """The copy has nearly all: nothing else happens to the replica until it has all."""
        replica = self._assignments.of_answer(slot, incarnation, message.row, message.row_generation)
        if replica is None or replica.future_log_dir != message.log_dir or replica.completing:
            return
        is_asked_to_resign = replica.leads and replica.asked_to_resign >= replica.leader_epoch
        if replica.offline_code or replica.closing or is_asked_to_resign or not replica.started:
            return  # it says so again
        replica.completing = self._assignments.say(
            replica,
            CompleteMove(
                row=replica.row, row_generation=replica.row_generation, leader_epoch=replica.leader_epoch
            ),
        )

    def on_ended(self, slot: int, incarnation: int, message: MoveEnded) -> None:
        """The new directory is committed, or the old log is served again; or a copy has failed meanwhile."""
        replica = self._assignments.of_answer(slot, incarnation, message.row, message.row_generation)
        if replica is None:
            return
        is_wanted = message.is_complete and replica.completing and replica.future_log_dir == message.log_dir
        if not message.is_complete and replica.future_log_dir == message.log_dir:
            self._set(replica, "")
        if replica.completing:
            replica.completing = False
            replica.spent = max(replica.spent, message.leader_epoch)
            if not (is_wanted and not replica.offline_code and self._commit(replica, message.log_dir)):
                self._assignments.tell_again(replica)
                self._serve_again([replica])
        self.share_rates()

    def _commit(self, replica: Replica, log_dir: str) -> bool:
        log_dirs = self._context.log_dirs_of(replica.broker)
        if not log_dirs.is_online(log_dir):
            return False
        directory_id = log_dirs.id_of(log_dir)
        record = replica_moved(self._changes.image, replica.key, directory_id, self._changes.rules())
        if record is None:
            return False
        try:
            self._changes.stage([record])
        except KafkaError:
            return False
        self._assignments.move(replica, log_dir)
        return True
