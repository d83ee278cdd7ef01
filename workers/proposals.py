"""What leaders propose: who is in sync with them."""

from collections.abc import Iterable

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.metadata.alter_partition import alter_partitions
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import Record
from tailrace.core.metadata.requests import IsrProposal
from tailrace.workers.assignments import Assignments
from tailrace.workers.changes import Changes
from tailrace.workers.control import AlterPartition, PartitionAltered
from tailrace.workers.orders import Replica
from tailrace.workers.process import ProcessContext


class Proposals:
    """Each is answered once, if who proposed it is still the process that serves the replica."""

    def __init__(self, context: ProcessContext, changes: Changes, assignments: Assignments) -> None:
        self._context = context
        self._changes = changes
        self._assignments = assignments

    def take(self, slot: int, incarnation: int, message: AlterPartition) -> None:
        """Decide, perhaps once this leader has resigned: a move that it is no part of may end with this."""
        replica = self._assignments.of_answer(slot, incarnation, message.row, message.row_generation)
        if replica is None:
            return

        def done(code: int | None, error: KafkaError | None) -> None:
            if error is not None:
                code = error.code
            self._answer(replica, incarnation, message, code or errors.NONE)

        self._changes.replace(lambda image: self._decide(image, replica, message), done)

    def _decide(
        self, image: MetadataImage, replica: Replica, message: AlterPartition
    ) -> tuple[list[Record], int]:
        proposal = IsrProposal(
            topic_id=message.topic_id,
            partition=message.partition,
            leader_epoch=message.leader_epoch,
            partition_epoch=message.partition_epoch,
            isr=[(broker, -1) for broker in message.isr],
        )
        broker_epoch = image.brokers[replica.broker].broker_epoch
        rules = self._changes.rules()
        altered = alter_partitions(image, replica.broker, broker_epoch, [proposal], rules)
        code, state = altered.results[0].error_code, image.partition(message.topic_id, message.partition)
        if state is not None and not code:
            joining = set(message.isr) - set(state.isr)
            if not self._are_there(replica, joining):
                return [], errors.INELIGIBLE_REPLICA
        return altered.records, code

    def _are_there(self, leader: Replica, joining: Iterable[int]) -> bool:
        """(R) Who joins the in-sync set serves its replica: one that died since the leader saw it caught up
        is not in sync because of what the dead process had.
        """
        for broker in joining:
            other = self._assignments.by_key.get((leader.topic_id, leader.partition, broker))
            if other is None or other.offline_code or not other.started:
                return False
            if not self._context.slots.is_live(other.slot, other.incarnation):
                return False
        return True

    def _answer(self, replica: Replica, incarnation: int, message: AlterPartition, code: int) -> None:
        state = replica.state
        self._context.outbox.send(
            replica.slot,
            PartitionAltered(
                row=message.row,
                row_generation=message.row_generation,
                proposed=message.partition_epoch,
                attempt=message.attempt,
                error_code=code,
                replicas=state.replicas,
                isr=state.isr,
                partition_epoch=state.partition_epoch,
            ),
            only=incarnation,
        )
