"""What an administrator of a simulated cluster does once the trouble is over.

Replicas whose log directories are lost are moved away, and others elected where nothing is left of who was in
sync; a topic of which some partition has lost all is given up.
"""

from collections.abc import Callable

from tailrace.core.metadata.elections import ELECT_UNCLEAN
from tailrace.core.metadata.image import MetadataImage, PartitionImage, TopicImage
from tailrace.core.metadata.requests import Reassignment, TopicToDelete
from tailrace.workers.control import DeleteTopics, ElectLeaders, Message, Reassign
from tests.sim.cluster_host import Host


class Administrator:
    """See the module. `ask`: by some gateway."""

    def __init__(self, host: Host, ask: Callable[[Message], object]) -> None:
        self._host, self._ask = host, ask

    @property
    def _image(self) -> MetadataImage:
        assert self._host.quorum is not None
        return self._host.quorum.oracle.image

    def look(self, *, after_power: bool) -> None:
        """Ask for what is missing. after_power: the last one in sync had no more than the page cache, and
        somebody decides to go on without.
        """
        moves: list[Reassignment] = []
        without: list[tuple[str, int]] = []
        for topic, state in self._image.walk():
            lost = self._lost(state)
            if len(lost) == len(self._host.brokers):  # one after the other, and nobody has looked
                self._ask(
                    DeleteTopics(request_id=7, topics=[TopicToDelete(name=topic.name)], timeout_ms=1000)
                )
                return
            if lost:
                moves.append(self._move(topic, state, lost))
            if state.leader < 0 and (set(state.isr) <= lost or (after_power and self._host.readers.losses)):
                without.append((topic.name, state.partition))
        if moves:
            self._ask(Reassign(request_id=6, moves=moves, replication_factor_may_change=True))
        if without:
            self._ask(ElectLeaders(request_id=4, election_type=ELECT_UNCLEAN, partitions=without))

    def _lost(self, state: PartitionImage) -> set[int]:
        """Brokers whose replica lies in a directory that is no more."""
        brokers = self._host.brokers
        return {
            broker
            for broker in state.replicas
            if brokers[broker - 1].log_dirs.by_id(state.directory_of(broker)) is None
        }

    def _move(self, topic: TopicImage, state: PartitionImage, lost: set[int]) -> Reassignment:
        """To those that are left, or to another."""
        left = [broker for broker in state.replicas if broker not in lost and broker not in state.removing]
        others = [one.node_id for one in self._host.brokers if one.node_id not in lost]
        return Reassignment(topic=topic.name, partition=state.partition, replicas=tuple(left or others[:1]))
