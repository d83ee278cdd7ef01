"""How a controller that has just come to lead makes the host's state its own: what the log says, what lies in
the log directories, and what the workers that live hold (takeover.py).

At the start of a run every broker starts and everything is served anew. Later the workers go on with what
they hold; (R) what nobody holds gets a new leader epoch, for whoever led it may have died with the last
controller, and what was resigned gets one, too.
"""

import time

from tailrace.core import errors
from tailrace.core.log.directory import DiskFullError
from tailrace.core.metadata.brokers import start_all
from tailrace.core.metadata.configs import told_configs
from tailrace.core.metadata.image import PartitionImage
from tailrace.core.metadata.leadership import LeaderRules, elect_leaderless, replicas_died, serve_again
from tailrace.core.metadata.records import PartitionChange, Record
from tailrace.shm.slots import SUPERVISOR_SLOT
from tailrace.workers.assignments import Assignments
from tailrace.workers.changes import Changes
from tailrace.workers.control import HeldReplica, RetireWorker
from tailrace.workers.metadata_log import MetadataLog
from tailrace.workers.orders import Key
from tailrace.workers.presence import registration_of
from tailrace.workers.process import ProcessContext
from tailrace.workers.survey import Place, Survey
from tailrace.workers.takeover import TakeOver

Held = dict[Key, tuple[int, HeldReplica]]


class Beginning:
    """Done once."""

    def __init__(
        self, context: ProcessContext, log: MetadataLog, changes: Changes, assignments: Assignments
    ) -> None:
        self._context = context
        self._log = log
        self._changes = changes
        self._assignments = assignments
        self._offline: set[Key] = set()
        self.unfinished: list[tuple[Key, str]] = []  # replicas that were moving, and to which directory

    def take_over(self, found: TakeOver) -> bool:
        """False: the disk has no room now, for what everything else waits for. A broker that starts says so:
        DiskFullError.
        """
        held = found.held()
        places = self._survey(found, held)
        self._offline = {key for key, place in places.items() if not place.path} | found.quarantined
        self._offline.difference_update(held)
        try:
            if found.first_of_run:
                self._start_all(places)
            else:
                self._go_on(held, places)
        except DiskFullError:
            if found.first_of_run:
                raise
            return False
        self._adopt(found, held)
        self._keep_rows(found, places)
        self._place(found, places)
        self._retire_idle(found)
        for topic, state in self._log.image.walk():
            self._assignments.tell(topic.topic_id, state)
        return True

    def _survey(self, found: TakeOver, held: Held) -> dict[Key, Place]:
        """Where the replicas lie that nobody holds."""
        image = self._log.image
        surveys = {
            broker.node_id: Survey(
                broker.log_dirs,
                image,
                broker.node_id,
                [key[:2] for key in held if key[2] == broker.node_id],
                first_of_run=found.first_of_run,
            )
            for broker in self._context.brokers
        }
        places = {
            (topic.topic_id, state.partition, broker): surveys[broker].place(topic, state)
            for topic, state in image.walk()
            for broker in state.replicas
            if broker in surveys and (topic.topic_id, state.partition, broker) not in held
        }
        for key, place in places.items():
            name = f"{image.topics_by_id[key[0]].name}-{key[1]}"
            target = surveys[key[2]].moving_to(name, key[0])
            if place.path and target not in ("", place.path):
                self.unfinished.append((key, target))
        return places

    # The log.

    def _start_all(self, places: dict[Key, Place]) -> None:
        image = self._log.image
        self._stage(
            [record for topic, state in image.walk() if (record := _moved(topic.topic_id, state, places))]
        )
        asked = [registration_of(self._context, index) for index in range(len(self._context.brokers))]
        # one that has lost all its directories meanwhile is fenced, and about to end; the others start
        there = [registration for registration in asked if registration.log_dirs] or asked
        self._stage(start_all(image, there, self._rules())[0])
        self._stage(elect_leaderless(image, self._rules()))

    def _go_on(self, held: Held, places: dict[Key, Place]) -> None:
        image = self._log.image
        self._stage(replicas_died(image, places, self._rules()))
        resigned: list[Key] = []
        for key, (_, replica) in held.items():
            state = image.partition(*key[:2])
            leads = state is not None and state.leader == key[2]
            if (
                state is not None
                and leads
                and not replica.leads
                and replica.leader_epoch == state.leader_epoch
            ):
                resigned.append(key)
        self._stage(serve_again(image, resigned, self._rules()))

    def _rules(self) -> LeaderRules:
        unclean = self._changes.rules().unclean_election
        return LeaderRules(unclean_election=unclean, unusable=frozenset(self._offline))

    def _stage(self, records: list[Record]) -> None:
        """Nothing is assigned yet, so nothing has to follow."""
        if records:
            self._log.stage(records, time.time_ns() // 1_000_000)

    # The workers.

    def _adopt(self, found: TakeOver, held: Held) -> None:
        image = self._log.image
        for (topic_id, partition, broker), (slot, replica) in held.items():
            topic, state = image.topics_by_id.get(topic_id), image.partition(topic_id, partition)
            if topic is None or state is None or broker not in state.replicas:
                self._assignments.adopt_deleted(replica, slot)
            else:
                configs = told_configs(image, topic.name, broker)
                incarnation = found.incarnations[slot]
                log_dir = self._changes.path_of(broker, state.directory_of(broker))
                self._assignments.adopt(replica, topic.name, state, configs, slot, incarnation, log_dir)
        self._assignments.seats.finish_adopting()

    def _keep_rows(self, found: TakeOver, places: dict[Key, Place]) -> None:
        """Of partitions whose leader is yet to be told of them."""
        assignments, image = self._assignments, self._log.image
        own = {found.rows.get(key, 0) for key in places}
        for (topic_id, partition), rows in found.rows_of.items():
            replicas = assignments.replicas_of(topic_id, partition)
            has_begun = any(replica.leads and replica.started for replica in replicas)
            if image.partition(topic_id, partition) is not None and not has_begun:
                assignments.keep_rows(topic_id, partition, rows - own)

    def _place(self, found: TakeOver, places: dict[Key, Place]) -> None:
        image = self._log.image
        # Those that had a row come first, before it is given to another.
        for key in sorted(places, key=lambda key: key not in found.rows):
            topic_id, partition, broker = key
            topic, state = image.topics_by_id[topic_id], image.partition(topic_id, partition)
            assert state is not None
            self._assignments.place(
                topic.name,
                topic_id,
                state,
                told_configs(image, topic.name, broker),
                broker=broker,
                log_dir=places[key].path,
                offline_code=errors.KAFKA_STORAGE_ERROR if key in self._offline else errors.NONE,
                former_row=found.rows.get(key, 0),
            )

    def _retire_idle(self, found: TakeOver) -> None:
        """Workers whose last replica went while there was no controller."""
        used = set(self._assignments.seats.slots_in_use())
        for slot in found.incarnations:
            if slot not in used:
                self._context.outbox.send(SUPERVISOR_SLOT, RetireWorker(slot=slot))


def _moved(topic_id: bytes, state: PartitionImage, places: dict[Key, Place]) -> PartitionChange | None:
    """The disk is believed: a log may have been moved while the brokers were stopped."""
    found = tuple(
        places[topic_id, state.partition, broker].directory_id
        if (topic_id, state.partition, broker) in places
        else directory
        for broker, directory in zip(state.replicas, state.directories, strict=True)
    )
    if found == state.directories:
        return None
    return PartitionChange(topic_id=topic_id, partition=state.partition, directories=found)
