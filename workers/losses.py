"""What the controller does about workers that die and replicas that fail: who takes over, what is tried
again, and when it is not any more.
"""

import errno
import signal
import time
from collections.abc import Iterable

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.metadata.leadership import replicas_died, serve_again
from tailrace.core.metadata.records import NO_LEADER, PartitionChange, Record
from tailrace.shm import state_table as rows
from tailrace.shm.state_table import RowWriter, topic_id_words
from tailrace.workers.assignments import Assignments
from tailrace.workers.blame import Blame
from tailrace.workers.changes import Changes
from tailrace.workers.control import ReplicaFailed, WorkerDied
from tailrace.workers.orders import Key, Replica
from tailrace.workers.process import ProcessContext
from tailrace.workers.retries import Retries


class Losses:
    """What this controller knows of them."""

    def __init__(self, context: ProcessContext, changes: Changes, assignments: Assignments) -> None:
        self._context = context
        self._changes = changes
        self._assignments = assignments
        self._blame = Blame()
        self._died: list[WorkerDied] = []
        self._failed: set[Key] = set()
        self.retries = Retries()

    # Deaths.

    def note_death(self, death: WorkerDied) -> None:
        """What a worker died of; the slot table says that it did."""
        self._died.append(death)

    def bury(self, dead: Iterable[int]) -> None:
        """The processes in these worker slots are dead. One batch with what follows for all that they had:
        then their replicas are served anew (R).
        """
        died, self._died = self._died, []
        for death in died:
            self._note_blame(death)
        orphans = [replica for slot in dead for replica in self._assignments.on_worker_death(slot)]
        image, rules = self._changes.image, self._changes.rules()
        self._stage(replicas_died(image, [replica.key for replica in orphans], rules), orphans)

    def _note_blame(self, death: WorkerDied) -> None:
        replica = self._assignments.by_row.get(death.row)
        if replica is None or (replica.slot, replica.incarnation) != (death.slot, death.incarnation):
            return  # (R) the frame came late: another has the row by now, and alone writes it
        if death.signal == signal.SIGKILL or replica.deleting:
            return  # somebody's hand or the kernel's out-of-memory killer: not the partition's fault
        disk_fault = death.signal == signal.SIGBUS
        log_dirs = self._context.log_dirs_of(replica.broker)
        if disk_fault and log_dirs.can_be_spared(replica.log_dir):
            log_dirs.fail(replica.log_dir, errno.EIO)
        if self._blame.on_death(death.row, time.monotonic(), disk_fault=disk_fault):
            self._publish_offline(replica)
            self._assignments.take_offline(replica, errors.KAFKA_STORAGE_ERROR)

    def _publish_offline(self, replica: Replica) -> None:
        """Its owner is dead, so the row is ours to write; the next controller reads there that it is
        quarantined.
        """
        writer = RowWriter(self._context.state_table, replica.row)
        values = writer.values
        values[rows.TOPIC_ID_HI], values[rows.TOPIC_ID_LO] = topic_id_words(replica.topic_id)
        values[rows.PARTITION] = replica.partition
        values[rows.ROW_GENERATION] = replica.row_generation
        values[rows.ROLE] = rows.ROLE_OFFLINE
        values[rows.OWNER] = replica.slot << 32
        writer.publish()

    def _stage(self, records: list[Record], concerned: Iterable[Replica]) -> bool:
        """If there is no room for the records, those that would lead in an epoch that is spent are offline
        (R), and tried again.
        """
        try:
            self._changes.stage(records)
        except KafkaError:
            for replica in concerned:
                if replica.is_spent:
                    self.retries.note(replica.row, time.monotonic(), is_full=True)
                    self._assignments.take_offline(replica, errors.KAFKA_STORAGE_ERROR)
            return False
        return True

    # Failures.

    def on_failed(self, slot: int, incarnation: int, message: ReplicaFailed) -> None:
        """A worker could not open a replica, or has lost it."""
        replica = self._assignments.on_failed(
            slot,
            incarnation,
            message.row,
            message.row_generation,
            message.error_code,
            is_full=message.is_full,
        )
        if replica is None:
            return
        self._failed.add(replica.key)
        if self._is_dir_online(replica):
            self.retries.note(message.row, time.monotonic(), is_full=message.is_full)

    def settle(self) -> None:
        """What follows from failures: others lead, once the worker has let go for certain. Where there are
        none the leader stays who it is, offline: it is tried again soon, (R) and each try must not add to a
        log on a disk that is full.
        """
        self.serve_again(self._changes.take_resigned())
        by_key = self._assignments.by_key
        for key in list(self._failed):
            replica = by_key.get(key)
            if replica is not None and replica.closing:
                continue
            self._failed.discard(key)
            if replica is not None and replica.offline_code:
                records = replicas_died(self._changes.image, [key], self._changes.rules())
                self._stage([record for record in records if not _ends(record)], [replica])

    # Tries.

    def retry_due(self) -> None:
        """Those whose pause is over: as leaders in a new epoch, if they led in this one."""
        revived: list[Replica] = []
        for row in self.retries.take_due(time.monotonic()):
            replica = self._assignments.by_row.get(row)
            is_gone = replica is None or not self._is_dir_online(replica)
            if replica is None or is_gone or not replica.offline_code or replica.deleting:
                self.retries.forget(row)
            elif replica.closing:
                self.retries.note(row, time.monotonic(), is_full=True)
            else:
                self._assignments.revive(replica)
                revived.append(replica)
        self.serve_again(revived)

    def serve_again(self, revived: list[Replica]) -> None:
        """They may serve once more."""
        spent = [each for each in revived if each.is_spent or each.state.leader == NO_LEADER]
        image, rules = self._changes.image, self._changes.rules()
        self._stage(serve_again(image, [replica.key for replica in spent], rules), spent)

    def _is_dir_online(self, replica: Replica) -> bool:
        return self._context.log_dirs_of(replica.broker).is_online(replica.log_dir)


def _ends(record: Record) -> bool:
    return isinstance(record, PartitionChange) and record.leader == NO_LEADER
