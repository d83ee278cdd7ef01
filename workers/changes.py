"""The door by which the active controller stages what touches brokers, topics, partitions and configs.

    stage(records)          the log and the image have them, and so have the workers' orders
    replace(decide, done)   the same for what puts others in the place of leaders that live: they resign first

(R) A leader epoch in which another leads is staged only when the process of the old leader is dead, or has
said that it resigned. Orders and answers leave the controller with the commit of what they rest on
(quorum_member.py).
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from tailrace.core.config_keys import UNCLEAN_ELECTION
from tailrace.core.errors import KafkaError
from tailrace.core.metadata.configs import told_configs
from tailrace.core.metadata.delta import MetadataDelta
from tailrace.core.metadata.directories import fill_directories
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.leadership import LeaderRules, leaders_replaced
from tailrace.core.metadata.records import RESOURCE_BROKER, RESOURCE_TOPIC, ConfigRecord, Record
from tailrace.core.metadata.throttles import copy_rates
from tailrace.workers.assignments import Assignments
from tailrace.workers.control import Resigned
from tailrace.workers.metadata_log import MetadataLog
from tailrace.workers.orders import Key, Replica
from tailrace.workers.process import ProcessContext

T = TypeVar("T")

Decide = Callable[[MetadataImage], tuple[Sequence[Record], T]]
"""Records to stage as one batch, and what the asker is told then."""
Done = Callable[[T | None, KafkaError | None], object]
"""Called once, with what was decided, when it is staged; or with why it is not. The first is None if `decide`
itself raised that.
"""


class _Replacement(Generic[T]):
    """A decision that waits for leaders to resign; it is made anew then."""

    def __init__(self, decide: Decide[T], done: Done[T]) -> None:
        self.decide = decide
        self.done = done
        self.asked: dict[Key, int] = {}  # leaders, and the epoch that each is to resign


class Changes:
    """See the module."""

    def __init__(self, context: ProcessContext, log: MetadataLog, assignments: Assignments) -> None:
        self._context = context
        self._log = log
        self._assignments = assignments
        self._waiting: list[_Replacement[Any]] = []
        self._resigned: set[Key] = set()
        self._throttles = False
        self.wished_dirs: dict[Key, str] = {}  # of replicas that are still to be made, the id of a directory
        self.on_rates: Callable[[], object] = lambda: None  # hears that configs of brokers have changed
        self.may_elect = False  # whether an unclean election may be allowed where it was not

    @property
    def image(self) -> MetadataImage:
        """With all that is staged."""
        return self._log.image

    def rules(self) -> LeaderRules:
        """By what leaders are elected now. A leader that has failed stays one until its worker has let go for
        certain (R): nothing else that happens to its partition puts another in its place.
        """
        by_key, offline = self._assignments.by_key, self._assignments.offline
        return LeaderRules(
            unclean_election=self._context.config.unclean_leader_election_enable,
            unusable=frozenset(
                key for key in offline if not (by_key[key].leads and self._may_append(by_key[key]))
            ),
        )

    # What is staged at once.

    def stage(self, records: Sequence[Record]) -> None:
        """One batch; nothing if there are none. KafkaError: the log refuses, and nothing has happened."""
        if not records:
            return
        image = self.image
        failed = {directory for broker in self._context.brokers for directory in broker.log_dirs.failed_ids()}
        records = fill_directories(image, records, self.wished_dirs, failed)
        assert not self._alive(leaders_replaced(image, records)), "a leader that lives resigns first (R)"
        delta = MetadataDelta()
        delta.note(image, records)
        gone = {topic_id: len(image.topics_by_id[topic_id].partitions) for topic_id in delta.topics_removed}
        self._log.stage(records, time.time_ns() // 1_000_000)
        self._carry_over(delta, gone)
        if any(isinstance(record, ConfigRecord) and record.key == UNCLEAN_ELECTION for record in records):
            self.may_elect = True

    def _carry_over(self, delta: MetadataDelta, gone: dict[bytes, int]) -> None:
        for topic_id, count in gone.items():
            self._assignments.delete_topic(topic_id, count)
        configs: dict[bytes, dict[int, dict[str, str]]] = {}
        for topic_id, index in delta.partitions:
            topic, state = self.image.topics_by_id[topic_id], self.image.partition(topic_id, index)
            assert state is not None, "its record was just replayed"
            for broker in state.replicas:
                key = (topic_id, index, broker)
                if key not in self._assignments.by_key and broker in self._assignments.brokers:
                    self.wished_dirs.pop(key, None)
                    if topic_id not in configs:
                        configs[topic_id] = self._configs_of(topic.name)
                    self._assignments.place(
                        topic.name,
                        topic_id,
                        state,
                        configs[topic_id][broker],
                        broker=broker,
                        log_dir=self.path_of(broker, state.directory_of(broker)),
                        is_new=True,
                    )
            self._assignments.update(topic_id, state)
        self._configure(delta)
        self.throttle()

    def throttle(self) -> None:
        """Tell replicas how fast they may copy, if there are such rates, or were."""
        rates = copy_rates(self.image)
        if rates or self._throttles:
            self._throttles = bool(rates)
            self._assignments.throttle(rates)

    def _configs_of(self, topic: str) -> dict[int, dict[str, str]]:
        return {broker: told_configs(self.image, topic, broker) for broker in self._assignments.brokers}

    def path_of(self, broker: int, directory_id: str) -> str:
        """Of a log directory of this host; empty: the broker has it no more."""
        log_dir = self._context.log_dirs_of(broker).by_id(directory_id)
        return "" if log_dir is None else log_dir.path

    def _configure(self, delta: MetadataDelta) -> None:
        """Tell the workers of the topics that have other configs now: all, if a broker's changed."""
        by_name = self.image.topics_by_name
        if any(kind == RESOURCE_BROKER for kind, _ in delta.configs):
            names = list(by_name)
            self.on_rates()
        else:
            names = [name for kind, name in delta.configs if kind == RESOURCE_TOPIC and name in by_name]
        for name in names:
            topic = by_name[name]
            if topic.topic_id not in delta.topics_added:
                configs = self._configs_of(name)
                self._assignments.configure(topic.topic_id, len(topic.partitions), configs)

    # What waits for leaders to resign.

    def replace(self, decide: Decide[T], done: Done[T]) -> None:
        """Stage what `decide` says, once no leader that it replaces can still append; perhaps it is called
        several times until then, the last time just before.
        """
        self._try(_Replacement(decide, done))

    def _try(self, replacement: _Replacement[T]) -> None:
        try:
            records, result = replacement.decide(self.image)
        except KafkaError as refused:
            replacement.done(None, refused)
            return
        replaced = leaders_replaced(self.image, records)
        alive = self._alive(replaced)
        if alive:
            # (R) also those that have resigned by now: they would lead on, be asked anew, and all the others
            # would lead on meanwhile, without end
            known = self._assignments.by_key
            replacement.asked = {key: known[key].leader_epoch for key in replaced if key in known}
            self._waiting.append(replacement)
            self._ask(alive)
            return
        error: KafkaError | None = None
        try:
            self.stage(records)
        except KafkaError as refused:
            error = refused
        replacement.done(result, error)

    def _alive(self, keys: Iterable[Key]) -> list[Replica]:
        """Of these leaders those whose process may still append."""
        found = (self._assignments.by_key.get(key) for key in keys)
        return [replica for replica in found if replica is not None and self._may_append(replica)]

    def _may_append(self, replica: Replica) -> bool:
        is_live = self._context.slots.is_live(replica.slot, replica.incarnation)
        return replica.incarnation != 0 and is_live and replica.spent < replica.leader_epoch

    def _ask(self, leaders: Iterable[Replica]) -> None:
        for replica in leaders:
            self._assignments.ask_to_resign(replica)

    def on_resigned(self, slot: int, incarnation: int, message: Resigned) -> None:
        """A worker leads no more in this epoch, and never will."""
        replica = self._assignments.of_answer(slot, incarnation, message.row, message.row_generation)
        if replica is not None:
            replica.spent = max(replica.spent, message.leader_epoch)
            self._resigned.add(replica.key)

    def look(self) -> None:
        """Decide anew what waited, once nobody that was asked leads any more in that epoch."""
        waiting, self._waiting = self._waiting, []
        for replacement in waiting:
            alive = self._alive(replacement.asked)
            still = [each for each in alive if each.leader_epoch == replacement.asked[each.key]]
            if still:
                self._ask(still)
                self._waiting.append(replacement)
            else:
                self._try(replacement)

    def take_resigned(self) -> list[Replica]:
        """Leaders that have resigned, in vain: nobody waits for it any more, and they are to lead on, in an
        epoch of their own.
        """
        awaited = {key for replacement in self._waiting for key in replacement.asked}
        settled, self._resigned = self._resigned - awaited, self._resigned & awaited
        found = (self._assignments.by_key.get(key) for key in settled)
        return [replica for replica in found if replica is not None and replica.is_spent]
