"""Which brokers of the host are there: one whose processes are all dead is fenced, with its partitions led by
nobody; one that serves again is unfenced.

(R) A broker is fenced, and leaders taken from it, only when every process of it is proven dead: nothing it
might still acknowledge is lost by that. So it is looked at in the slot table, each time anew.
"""

from collections.abc import Sequence

from tailrace.core.errors import NOT_LEADER_OR_FOLLOWER, KafkaError
from tailrace.core.metadata.brokers import fence, unfence
from tailrace.core.metadata.leadership import LeaderRules
from tailrace.core.metadata.records import PartitionChange, Record
from tailrace.shm.slots import READY, STOPPING, SUPERVISOR_SLOT
from tailrace.workers.assignments import Assignments
from tailrace.workers.metadata_log import MetadataLog
from tailrace.workers.process import Broker, ProcessContext


class Presence:
    """What the controller does about brokers that go and come."""

    def __init__(self, context: ProcessContext, log: MetadataLog, assignments: Assignments) -> None:
        self._context = context
        self._log = log
        self._assignments = assignments

    def look(self, now_ms: int) -> None:
        """Stage what has changed since the last look; what a full disk refuses is found again at the next."""
        if self._context.slots.state(SUPERVISOR_SLOT) == STOPPING:
            return  # all are stopped: nobody is reassigned, and the next start finds them as they were
        for index, broker in enumerate(self._context.brokers):
            known = self._log.image.brokers.get(broker.node_id)
            if known is None:
                continue
            if known.fenced and self._serves(index):
                self._stage(unfence(self._log.image, broker.node_id, self._rules(broker)), broker, now_ms)
            elif not known.fenced and self._is_dead(index):
                self._stage(fence(self._log.image, broker.node_id, self._rules(broker)), broker, now_ms)

    def _stage(self, records: Sequence[Record], broker: Broker, now_ms: int) -> None:
        try:
            self._log.stage(records, now_ms)
        except KafkaError:
            return
        for record in records:
            if isinstance(record, PartitionChange):
                self._follow(record, broker.node_id)

    def _follow(self, record: PartitionChange, node_id: int) -> None:
        partition = self._log.image.partition(record.topic_id, record.partition)
        replica = self._assignments.by_key.get((record.topic_id, record.partition, node_id))
        assert partition is not None, "its change was just replayed"
        if replica is None or replica.deleting:
            return
        if partition.leader == node_id:
            self._assignments.revive(replica, partition.leader_epoch)
        elif not replica.offline_code:
            self._assignments.take_offline(replica, NOT_LEADER_OR_FOLLOWER)

    def _rules(self, broker: Broker) -> LeaderRules:
        """Who is out of service for another reason is not to lead when its broker comes back."""
        unusable = frozenset(
            replica.key
            for replica in self._assignments.by_key.values()
            if replica.broker == broker.node_id and replica.offline_code not in (0, NOT_LEADER_OR_FOLLOWER)
        )
        return LeaderRules(unusable=unusable)

    def _serves(self, index: int) -> bool:
        slots, slot = self._context.slots, self._context.layout.gateway(index)
        return slots.live_incarnation(slot) != 0 and slots.state(slot) == READY

    def _is_dead(self, index: int) -> bool:
        slots, layout = self._context.slots, self._context.layout
        if not slots.incarnation(layout.gateway(index)):
            return False  # the host is being started
        fixed = (layout.controller(index), layout.gateway(index), layout.housekeeper(index))
        return not any(slots.live_incarnation(slot) for slot in (*fixed, *layout.workers(index)))
