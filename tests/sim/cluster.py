"""A whole cluster in one thread: controllers under Raft, workers that replicate, clients, and what befalls.

0 ms ..   topics are made, producers write; processes, brokers, all of them die, stand still, lose disks;
          replicas and voters move, leaders are elected
then      links hold, everybody comes back: all replicas are in sync and hold the same, controllers agree
"""

from collections.abc import Callable
from functools import partial

from msgspec import structs

from tailrace.core.metadata.elections import ELECT_PREFERRED, ELECT_UNCLEAN
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.requests import NewTopic, Reassignment, TopicToDelete
from tailrace.core.raft.node import RaftNode
from tailrace.core.raft.voters import ReplicaKey, Voter
from tailrace.workers.control import CreateTopics, DeleteTopics, ElectLeaders, Message, Reassign
from tests.sim.cluster_context import FIRST_ID, patched
from tests.sim.cluster_controllers import Controller
from tests.sim.cluster_gateway import TopicPartition
from tests.sim.cluster_host import Host
from tests.sim.cluster_mend import Administrator
from tests.sim.cluster_plan import PLANS, Plan
from tests.sim.raft_cluster import Pace
from tests.sim.raft_story import brief
from tests.sim.replication_log import new_batch
from tests.sim.world import Weather, World

BROKERS = 3
CALM_MS = 30_000  # that a cluster has to recover in
TOPIC = "t"


class Cluster:
    """See the module."""

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        self.world = World(seed, describe=brief)
        random = self.world.random
        self.plan = plan or PLANS[seed % len(PLANS)]
        roughness = random.choice((0.0, 0.3, 1.0))
        self.world.weather = Weather(
            delay_ms=(0, random.choice((1, 2, 8))), slow=0.02 * roughness, slow_ms=150,
            drop=random.choice((0.0, 0.02, 0.1)) * roughness, duplicate=0.1 * roughness,
        )  # fmt: skip
        self.policy = random.choice(("page", "page", "page", "each", "group"))
        settings = {
            "flush_policy": self.policy,
            "replica_lag_time_max_ms": random.choice(("100", "300", "300")),
            "min_insync_replicas": random.choice(("1", "2")),
            "leader_imbalance_check_interval_seconds": random.choice(("1", "300")),
            "unclean_leader_election_interval_ms": "2000",
        }
        sync = random.choice((0, 2, 8))
        self.host = Host(
            self.world, BROKERS, workers_each=random.choice((1, 1, 2)),
            ring_bytes=random.choice((1300, 3000, 60_000)),
            restart_ms=random.choice((5, 30, 200)), settings=settings,
            pace=Pace(sync_ms=(0, sync), slow_sync=random.choice((0, 0.05))),
        )  # fmt: skip
        self.administrator = Administrator(self.host, self._ask)
        self.is_calm = False
        self.numbers = 0
        self.lost: set[int] = set()  # node ids whose metadata disk was lost, until they vote again

    # What clients do.

    @property
    def image(self) -> MetadataImage:
        """As it is committed."""
        assert self.host.quorum is not None
        return self.host.quorum.oracle.image

    def active(self) -> Controller | None:
        """Whose controller decides, if its process can be asked now."""
        slot = self.host.memory.slots.active_controller(self.host.layout.controllers())[0]
        found = self.host.controllers.get(slot)
        if found is None or found.member is None or found.member.controller is None:
            return None
        return None if self.world.places[found.name].is_paused else found

    def keys(self) -> list[TopicPartition]:
        """All partitions that there are."""
        return [(topic.topic_id, state.partition) for topic, state in self.image.walk()]

    def create(self) -> None:
        """The topic, asked for whenever it is not there."""
        if TOPIC not in self.image.topics_by_name and self.active() is not None:
            self._create()
        self.world.at(self.world.now_ms + 40, self.create)

    def _create(self) -> None:
        random = self.world.random
        ids = [broker.broker_id for broker in self.image.brokers.values() if not broker.fenced]
        gateway = self.host.gateways.get(random.randrange(BROKERS))
        if gateway is None or len(ids) < (2 if self.numbers else BROKERS):
            return
        count = random.choice((1, 1, 2, 3))
        sizes = [random.choice((3, 3, 3, 2, 1)) for _ in range(count)]
        replicas = [random.sample(ids, min(size, len(ids))) for size in sizes]
        unclean = "true" if random.random() < 0.3 else "false"
        new = NewTopic(name=TOPIC, assignments=list(enumerate(replicas)),
                       configs=[("unclean.leader.election.enable", unclean)])  # fmt: skip
        gateway.ask(CreateTopics(request_id=1, topics=[new], validate_only=False, timeout_ms=1000))

    def produce(self) -> None:
        """A client sends to whoever leads, as its gateway knows."""
        random = self.world.random
        known = {key: None for gateway in self.host.gateways.values() for key in gateway.leaders}
        keys = list(dict.fromkeys(self.keys()) | known)  # gateways may not know yet that a topic is gone
        if not keys:
            return
        key = random.choice(keys)
        batches: list[tuple[int, int, bytes]] = []
        for _ in range(random.choice((1, 1, 1, 3, 12))):
            self.numbers += 1
            count = random.choice((1, 2))
            batches.append((self.numbers, count, new_batch(self.numbers, count)))
        acks_all = random.random() < 0.7
        for broker, gateway in list(self.host.gateways.items()):
            if not self.world.places[f"gateway {FIRST_ID + broker}"].is_paused:
                gateway.produce(key, batches, acks_all=acks_all)

    # What befalls.

    def befall(self) -> None:
        """One thing."""
        actions: dict[str, Callable[[], object]] = {
            "kill_worker": self._kill_worker,
            "kill_in_turn": self._kill_in_turn,
            "kill_gateway": lambda: self.host.kill(self.host.layout.gateway(self._broker())),
            "kill_controller": self._kill_controller,
            "kill_broker": self._kill_broker,
            "kill_all": lambda: self.host.stop_all(power=False),
            "power": lambda: self.host.stop_all(power=True),
            "pause": self._pause,
            "resign": self._resign,
            "part": self._part,
            "move": self._move,
            "elect": self._elect,
            "shut_down": lambda: self.host.shut_down(self._broker()),
            "lose_disk": self._lose_disk,
            "lose_dirs": self._lose_dirs,
            "break_dir": self._break_dir,
            "delete": self._delete,
            "snapshot": self._snapshot,
            "change_voters": self._change_voters,
        }
        weights = [getattr(self.plan, name) for name in actions]
        name = self.world.random.choices(list(actions), weights)[0]
        actions[name]()

    def _broker(self) -> int:
        return self.world.random.randrange(BROKERS)

    def _worker(self) -> int | None:
        """A slot: of a leader, rather."""
        random, slots = self.world.random, sorted(self.host.workers)
        if not slots:
            return None
        leading = [
            slot
            for slot in slots
            if any(one.leads for one in self.host.workers[slot].worker.replicas.by_row.values())
        ]
        return random.choice(leading if leading and random.random() < 0.6 else slots)

    def _kill_worker(self) -> None:
        slot = self._worker()
        if slot is not None:
            self.host.kill(slot)

    def _kill_in_turn(self) -> None:
        slot = self._worker()
        if slot is not None:
            self.host.kill_soon(slot, self.world.random.randint(0, 12))

    def _kill_controller(self) -> None:
        active, random = self.active(), self.world.random
        if active is not None and random.random() < 0.6:
            if random.random() < 0.4:
                self.host.kill_soon(active.slot, random.randint(0, 6))
                return
            self.host.kill(active.slot)
            return
        self.host.kill(self.host.layout.controller(self._broker()))

    def _kill_broker(self) -> None:
        broker, random = self._broker(), self.world.random
        if broker in self.host.running:
            self.host.kill_broker(broker)
            self.host.in_this_run(
                random.randint(1, 4 * self.host.restart_ms), lambda: self.host.start_broker(broker)
            )

    def _pause(self) -> None:
        random = self.world.random
        active = self.active()
        slots = [slot for slot in self.host.processes if slot]
        slot = random.choice(slots) if slots else 0
        if active is not None and random.random() < 0.4:
            slot = active.slot
        if slot:
            name = self.host.name_of(slot)
            self.world.pause(name)
            self.world.at(self.world.now_ms + random.randint(1, 400), partial(self.world.resume, name))

    def _resign(self) -> None:
        active = self.active()
        if active is not None:
            active.do(RaftNode.resign)

    def _part(self) -> None:
        names = [str(FIRST_ID + broker) for broker in range(BROKERS)]
        self.world.random.shuffle(names)
        self.world.partition(names[:1], names[1:])
        self.world.at(self.world.now_ms + self.world.random.randint(10, 200), self.world.heal)

    def _ask(self, message: Message) -> None:
        """What an administrator's tool asks, by some gateway."""
        gateways = list(self.host.gateways.values())
        if gateways:
            self.world.random.choice(gateways).ask(message)

    def _move(self) -> None:
        random, keys = self.world.random, self.keys()
        if keys:
            ids = range(FIRST_ID, FIRST_ID + BROKERS)
            replicas = tuple(random.sample(ids, random.choice((1, 2, 2, 3))))
            wanted = None if random.random() < 0.2 else replicas
            move = Reassignment(topic=TOPIC, partition=random.choice(keys)[1], replicas=wanted)
            self._ask(Reassign(request_id=2, moves=[move], replication_factor_may_change=True))

    def _elect(self) -> None:
        kind = self.world.random.choice((ELECT_PREFERRED, ELECT_PREFERRED, ELECT_UNCLEAN))
        self._ask(ElectLeaders(request_id=3, election_type=kind, partitions=None))

    def _snapshot(self) -> None:
        assert self.host.quorum is not None
        self.host.quorum.take_snapshot(self.host.quorum.controller(self._broker()))

    def _leader(self) -> tuple[Controller, RaftNode] | None:
        assert self.host.quorum is not None
        found = self.host.quorum.leader()
        if found is None or found.node is None:
            return None
        return self.host.quorum.controller(found.node_id - FIRST_ID), found.node

    def _can_be_without(self, member: Controller) -> bool:
        """Whether the quorum can do without its disk: no log has a change of voters that is under way."""
        assert self.host.quorum is not None
        end = self.host.quorum.oracle.committed_end
        voters = [one.node.voters if one.node else None for one in self.host.quorum.members.values()]
        return not self.lost and all(
            known is not None
            and known.latest_offset < end
            and len(known.latest) == BROKERS
            and member.key in known.latest
            for known in voters
        )

    def _lose_disk(self) -> None:
        """As many metadata disks as the quorum can do without."""
        assert self.host.quorum is not None
        member = self.host.quorum.controller(self._broker())
        if self._can_be_without(member):
            self.lost.add(member.node_id)
            self.world.tell("{} loses its disk", member.name)
            self.host.kill(member.slot)
            member.new_disk()

    def _lose_dirs(self) -> None:
        """Log directories of one broker, which cannot be had back before all is started again. All of them if
        the quorum can do without its copy of the metadata.
        """
        random, host, broker = self.world.random, self.host, self._broker()
        if host.disks.lost:
            return
        assert host.quorum is not None
        member, indexes = host.quorum.controller(broker), [1]
        if random.random() < 0.6 and self._can_be_without(member):
            indexes = [0, 1]
            self.lost.add(member.node_id)
        host.lose_log_dirs(broker, indexes)
        host.in_this_run(random.randint(1, 4 * host.restart_ms), lambda: host.start_broker(broker))
        host.in_this_run(random.randint(50, 700), lambda: host.stop_all(power=False))

    def _break_dir(self) -> None:
        """That with the metadata ends its broker, until all is started again."""
        random, host = self.world.random, self.host
        index = int(random.random() < 0.75)
        if not index and len(host.running) < BROKERS:
            return
        host.break_log_dir(self._broker(), index)
        if not index or random.random() < 0.3:
            host.in_this_run(random.randint(50, 700), lambda: host.stop_all(power=False))

    def _delete(self) -> None:
        """The topic goes, and is made anew as soon as somebody finds it gone."""
        self._ask(DeleteTopics(request_id=5, topics=[TopicToDelete(name=TOPIC)], timeout_ms=1000))

    def _change_voters(self) -> None:
        """Those who lost their disks are seen to by the leader itself; one leaves, and later comes back."""
        found = self._leader()
        assert self.host.quorum is not None
        if found is None:
            return
        leader, node = found
        voters = node.voters.latest
        present = [member.key for member in self.host.quorum.members.values()]
        missing = [key for key in present if voters.get(key.node_id) is None]
        if missing:
            leader.do(partial(_add, key=missing[0]))
        elif not self.lost and not self.is_calm:
            leader.do(partial(_remove, key=self.world.random.choice(present)))
        for key in present:
            metadata_dir = self.host.brokers[key.node_id - FIRST_ID].log_dirs.metadata_dir
            is_settled = node.voters.latest_offset < node.high_watermark
            if key in voters and is_settled and metadata_dir not in self.host.disks.lost:
                self.lost.discard(key.node_id)

    # A run.

    def run(self) -> World:
        """Trouble for a while, then calm."""
        with patched(self.host):
            self._begin()
            self.world.run(self.plan.bad_ms)
            self._end_trouble()
            limit = self.world.now_ms + CALM_MS
            while not self.is_whole():
                if self.world.now_ms > limit:
                    self.world.fail(f"not whole after {CALM_MS} ms: {self.lacking()}")
                self.world.run(self.world.now_ms + 100)
            self.check_end()
        return self.world

    def _begin(self) -> None:
        world, random = self.world, self.world.random
        self.host.start()

        def again(action: Callable[[], object], pause_ms: tuple[int, int], in_calm: bool) -> None:
            if self.is_calm and not in_calm:
                return
            action()
            world.at(world.now_ms + random.randint(*pause_ms), partial(again, action, pause_ms, in_calm))

        self.create()
        again(self.produce, (1, 25), in_calm=False)
        again(self.host.checkpoint, (20, 120), in_calm=True)
        world.at(130, partial(again, self.befall, self.plan.every_ms, in_calm=False))

    def _end_trouble(self) -> None:
        world, host = self.world, self.host
        world.tell("the trouble is over")
        self.is_calm = True
        world.heal()
        world.weather = Weather()
        assert host.quorum is not None
        host.quorum.pace = structs.replace(host.quorum.pace, slow_sync=0.0)
        for name in world.places:
            world.resume(name)
        for process in host.processes.values():
            process.steps_left = -1
        if host.disks.broken or host.disks.lost:  # only a new run takes a log directory in again
            host.stop_all(power=False)
        for broker in range(BROKERS):
            self.host.in_this_run(200, partial(host.start_broker, broker))
        self._mend()
        for wait_ms in (600, 900, 1300):
            self.host.in_this_run(wait_ms, self.produce)

    def _mend(self) -> None:
        """What an administrator does, again and again: voters that are missing come back, and so do replicas
        whose log directories were lost.
        """
        self._change_voters()
        self.administrator.look(after_power=self.world.now_ms > self.plan.bad_ms + 8000)
        self.world.at(self.world.now_ms + 60, self._mend)

    def is_whole(self) -> bool:
        """Everybody serves, all are in sync, nothing is under way."""
        return self.world.now_ms >= self.plan.bad_ms + 1500 and not self.lacking()

    def lacking(self) -> str:
        """What is not whole yet."""
        host = self.host
        assert host.quorum is not None
        end = host.quorum.oracle.committed_end
        if len(host.running) < BROKERS or self.lost:
            return f"brokers {host.running} run, {self.lost} lost their disks"
        for one in host.controllers.values():
            if one.member is None or (one.member.log.image.metadata_offset != end and not one.leads_in):
                return f"controller {one.name} has not got all"
        for topic, state in self.image.walk():
            if self._is_given_up((topic.topic_id, state.partition)):
                continue
            if state.leader < 0 or len(state.isr) < len(state.replicas) or state.is_reassigned:
                return str(state)
            key = (topic.topic_id, state.partition)
            if not self._is_level(key):
                return f"partition {key[1]} is not level"
        if any(one.sent for one in host.gateways.values()):
            return "somebody waits for an answer"
        return "" if self.keys() else "there is no topic"

    def _is_given_up(self, key: TopicPartition) -> bool:
        """Whether the last one in sync had no more than the page cache, and the power failed."""
        active = self.active()
        if not self.host.readers.losses or self.policy != "page" or active is None or active.member is None:
            return False
        controller, state = active.member.controller, self.host.readers.committed(key)
        assert controller is not None
        assert state is not None
        offline = controller.assignments.offline
        return len(state.isr) == 1 and (*key, state.isr[0]) in offline

    def _is_level(self, key: TopicPartition) -> bool:
        state = self.host.readers.committed(key)
        assert state is not None
        logs = [self.host.readers.log_of(key, broker) for broker in state.replicas]
        ends = {log.log_end_offset for log in logs if log is not None}
        marks = {log.high_watermark for log in logs if log is not None and log is not logs[0]} or ends
        return None not in logs and len(ends) == 1 and (marks == ends or len(logs) == 1)

    def check_end(self) -> None:
        """The same everywhere."""
        host = self.host
        assert host.quorum is not None
        host.quorum.oracle.check_end()
        for controller in host.controllers.values():
            assert controller.member is not None
            host.quorum.oracle.check_image(controller.member.log.image, controller.name)
        for key in self.keys():
            state = host.readers.committed(key)
            assert state is not None
            if self._is_given_up(key):
                continue
            held = [log.held() for broker in state.replicas if (log := host.readers.log_of(key, broker))]
            if held.count(held[0]) != len(state.replicas):
                self.world.fail(f"partition {key[1]}: replicas differ")
            line = host.readers.line(key)
            there = {one[1] for one in held[0]}
            lost = [number for end, number in line.acked.items() if end not in there]
            if lost or held[0][: len(line.seen)] != line.seen:
                self.world.fail(f"partition {key[1]}: {lost} are lost")


def _add(node: RaftNode, now_ms: int, key: ReplicaKey) -> int:
    return node.add_voter(Voter(key), now_ms)


def _remove(node: RaftNode, now_ms: int, key: ReplicaKey) -> int:
    return node.remove_voter(key, now_ms)


def play(seed: int, plan: Plan | None = None) -> World:
    """One run; Broken if a promise was."""
    cluster = Cluster(seed, plan)
    try:
        return cluster.run()
    except AssertionError as error:
        if error.__class__ is AssertionError:  # one of the real code's own
            cluster.world.fail(f"assertion: {error}")
        raise
