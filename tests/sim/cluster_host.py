"""A whole simulated host: who lives in which slot, who dies and comes back, and whose turn it is.

The supervisor is a model: it starts who is wanted, tells of deaths in the real one's order, and restarts.
"""

from collections.abc import Callable, Sequence
from functools import partial

from tailrace.shm import state_table as rows
from tailrace.shm.ring import ByteConsumer
from tailrace.shm.slots import GATEWAY, READY, SUPERVISOR, SUPERVISOR_SLOT, WORKER, Layout
from tailrace.shm.state_table import topic_id_bytes
from tailrace.workers.control import BrokerMayStop, RetireWorker, ShutDownBroker, WantWorker, WorkerDied
from tailrace.workers.process import Broker
from tests.sim.cluster_context import FIRST_ID, Context, Killed, SimulatedDirs, configs
from tests.sim.cluster_controllers import Controller, Quorum
from tests.sim.cluster_disk import Disks
from tests.sim.cluster_gateway import Gateway
from tests.sim.cluster_memory import Memory
from tests.sim.cluster_oracle import Readers
from tests.sim.cluster_worker import WorkerProcess
from tests.sim.raft_cluster import NEVER, Pace
from tests.sim.world import World


class Process:
    """Who lives in a slot."""

    def __init__(self, context: Context, turn: Callable[[], object]) -> None:
        self.context, self.turn = context, turn
        self.due_ms = NEVER
        self.steps_left = -1  # until it is killed in the middle of something; -1: it is not


class Host:
    """See the module."""

    def __init__(self, world: World, brokers: int, *, workers_each: int, ring_bytes: int, restart_ms: int,
                 pace: Pace, settings: dict[str, str]) -> None:  # fmt: skip
        """restart_ms: at most, until a dead process is started again. settings: of the brokers."""
        self.world, self.restart_ms, self.pace = world, restart_ms, pace
        self.layout = Layout(brokers, workers_each)
        self._ring_bytes = ring_bytes
        found = configs(brokers, **settings)
        self.disks = Disks()
        self.brokers = [
            Broker(config, SimulatedDirs(index, self.disks)) for index, config in enumerate(found)
        ]
        self.arenas: dict[str, dict[int, bytes]] = {}
        self.memory = self._new_memory()
        self.processes: dict[int, Process] = {}
        self.current = SUPERVISOR_SLOT
        self.controllers: dict[int, Controller] = {}
        self.workers: dict[int, WorkerProcess] = {}
        self.gateways: dict[int, Gateway] = {}  # by broker
        self.wanted: set[int] = set()
        self.running: set[int] = set()  # brokers
        self.leaving: dict[int, tuple[int, int]] = {}  # brokers that shut down, and what controller was told
        self.run = 0  # how often all was started
        self.readers: Readers = Readers(self)
        self.quorum: Quorum | None = None

    def _new_memory(self) -> Memory:
        return Memory(self.layout, self.world.random, self._ring_bytes)

    # Names and turns.

    def slots_of(self, broker: int) -> tuple[int, ...]:
        """Those of its processes."""
        layout = self.layout
        return (layout.controller(broker), layout.gateway(broker), *layout.workers(broker))

    def name_of(self, slot: int) -> str:
        """Of the place in the world: a controller's is its node's."""
        if slot in self.layout.controllers():
            return str(FIRST_ID + self.layout.broker_of(slot))
        if slot in self.layout.gateways():
            return f"gateway {FIRST_ID + self.layout.broker_of(slot)}"
        return "supervisor" if slot == SUPERVISOR_SLOT else f"worker {slot}"

    def begin(self, slot: int, role: int, turn: Callable[[], object]) -> Context:
        """A process takes the slot."""
        incarnation = self.memory.slots.begin(slot, role, self.layout.broker_of(slot), 0)
        self.current = slot
        context = Context(self, slot, incarnation)
        self.processes[slot] = Process(context, turn)
        return context

    def place(self, slot: int) -> None:
        """It is in the world."""
        name = self.name_of(slot)
        if name in self.world.places:
            self.world.restart(name, _nothing)
        else:
            self.world.add(name, _nothing)

    def wake(self, slot: int) -> None:
        """Its bell rings."""
        self.later(slot, self.world.random.randint(0, 2))

    def later(self, slot: int, delay_ms: int) -> None:
        """It has a turn then, or sooner."""
        process = self.processes.get(slot)
        due_ms = self.world.now_ms + delay_ms
        if process is None or process.due_ms <= due_ms:
            return
        process.due_ms = due_ms
        self.world.after(self.name_of(slot), delay_ms, partial(self._turn, slot, process, due_ms))

    def in_this_run(self, delay_ms: int, action: Callable[[], object]) -> None:
        """In so many ms, unless all has been stopped by then."""
        run = self.run
        self.world.at(self.world.now_ms + delay_ms, lambda: action() if run == self.run else None)

    def _turn(self, slot: int, process: Process, due_ms: int) -> None:
        if process.due_ms != due_ms or self.processes.get(slot) is not process:
            return  # it was woken before
        process.due_ms = NEVER
        self.current = slot
        try:
            process.turn()
        except Killed:
            self.kill(slot)

    def step(self, slot: int) -> None:
        """Something that others can see is about to happen; Killed: not any more."""
        process = self.processes.get(slot)
        if process is not None and process.steps_left >= 0:
            process.steps_left -= 1
            if process.steps_left < 0:
                self.world.tell("{} dies in the middle of its turn", self.name_of(slot))
                raise Killed

    def on_row(self, row: int, values: list[int]) -> None:
        """A row was published."""
        if row < self.layout.brokers:
            return
        topic_id = topic_id_bytes(values[rows.TOPIC_ID_HI], values[rows.TOPIC_ID_LO])
        broker = FIRST_ID + self.layout.broker_of(values[rows.OWNER] >> 32)
        self.readers.show((topic_id, values[rows.PARTITION]), broker, row, values)

    def sync_ms(self) -> int:
        """How long the next sync takes."""
        assert self.quorum is not None
        return self.quorum.sync_ms()

    # Life.

    def start(self) -> None:
        """All of it, with the disks as they are, but for what was broken: that is mended, and for what was
        lost an empty one is there.
        """
        self.run += 1
        for index, one in enumerate(self.brokers):
            dirs = SimulatedDirs(index, self.disks, one.log_dirs)
            self.brokers[index] = Broker(one.config, dirs)
            if dirs.metadata_dir in self.disks.lost and self.quorum is not None:
                self.quorum.controller(index).new_disk()
        self.disks.broken.clear()
        self.disks.lost.clear()
        self.wanted.clear()
        self.leaving.clear()
        self.arenas.clear()
        self.place(SUPERVISOR_SLOT)
        self.begin(SUPERVISOR_SLOT, SUPERVISOR, self._supervise)
        if self.quorum is None:
            self.running = set(range(self.layout.brokers))
            self.quorum = Quorum(self, self.layout.brokers, self.pace)
            for broker in range(self.layout.brokers):
                self._start_gateway(broker)
        else:
            self.running = set()
            for broker in range(self.layout.brokers):
                self.start_broker(broker)

    def start_broker(self, broker: int) -> None:
        """Its controller and its gateway; the workers are wanted by the controller that decides."""
        if broker in self.running:
            return
        own = self.slots_of(broker)
        if any(map(self.memory.slots.live_incarnation, own)):  # not all of it has ended
            self.in_this_run(1, partial(self.start_broker, broker))
            return
        self.world.tell("broker {} starts", FIRST_ID + broker)
        self.running.add(broker)
        self._probe_later(broker)
        for slot in own:
            self._start_again(slot)

    def _start_again(self, slot: int) -> None:
        broker = self.layout.broker_of(slot)
        slots = self.memory.slots
        if broker not in self.running or slots.live_incarnation(slot) or slot in self.processes:
            return
        if slot == self.layout.controller(broker):
            assert self.quorum is not None
            self.quorum.controller(broker).restart()
        elif slot == self.layout.gateway(broker):
            self._start_gateway(broker)
        elif slot in self.wanted:
            self._start_worker(slot)

    def _start_gateway(self, broker: int) -> None:
        slot = self.layout.gateway(broker)
        self.place(slot)
        gateway = Gateway(self)
        context = self.begin(slot, GATEWAY, gateway.turn)
        gateway.begin(context)
        self.gateways[broker] = gateway
        self.memory.slots.set_state(slot, READY)
        self.wake(slot)

    def _start_worker(self, slot: int) -> None:
        self.place(slot)
        worker = WorkerProcess(self)
        worker.begin(self.begin(slot, WORKER, worker.turn))
        self.workers[slot] = worker
        self.memory.slots.set_state(slot, READY)
        self.wake(slot)

    def kill(self, slot: int) -> None:
        """SIGKILL; the supervisor hears of it a little later."""
        process = self.processes.pop(slot, None)
        if process is None:
            return
        self.workers.pop(slot, None)
        self.gateways = {broker: one for broker, one in self.gateways.items() if one.context.slot != slot}
        controller = self.controllers.get(slot)
        if controller is not None:
            controller.crash(power=False)
            controller.member = None
        else:
            self.world.crash(self.name_of(slot))
        delay_ms = self.world.random.randint(0, 8)
        self.in_this_run(delay_ms, partial(self._reap, slot, process.context.incarnation))

    def _reap(self, slot: int, incarnation: int) -> None:
        """As workers/supervisor.py: the frame, the slot table, the bells; then it may start again."""
        context, slots = self.processes[SUPERVISOR_SLOT].context, self.memory.slots
        self.world.tell("{} is dead: everybody may know", self.name_of(slot))
        if slot in self.layout.all_workers():
            death = WorkerDied(slot=slot, incarnation=incarnation, row=slots.current_row(slot), signal=9)
            for controller in self.layout.controllers():
                context.outbox.send(controller, death)
            context.outbox.flush()
        slots.mark_dead(slot, incarnation)
        self.memory.forget((slot, incarnation))
        self._hint(slot)
        context.bells.ring_all()
        self.in_this_run(self.world.random.randint(1, self.restart_ms), partial(self._start_again, slot))

    def _hint(self, slot: int) -> None:
        """Controllers see in the slot table that one of them is dead."""
        if slot not in self.controllers:
            return
        dead = self.layout.broker_of(slot) + FIRST_ID
        for other in self.controllers.values():
            if other.node is not None:
                told = partial(other.do, lambda node, now_ms: node.peer_died(dead, now_ms))
                self.world.after(other.name, self.world.random.randint(0, 3), told)

    def kill_soon(self, slot: int, steps: int) -> None:
        """In the middle of what it does next."""
        process = self.processes.get(slot)
        if process is not None:
            process.steps_left = steps

    def kill_broker(self, broker: int) -> None:
        """All its processes; it stays down until it is started."""
        self.world.tell("broker {} is killed", FIRST_ID + broker)
        self.running.discard(broker)
        self.leaving.pop(broker, None)
        for slot in self.slots_of(broker):
            self.kill(slot)

    def shut_down(self, broker: int) -> None:
        """It hands over, then ends."""
        if broker in self.running:
            self.world.tell("broker {} shuts down", FIRST_ID + broker)
            self.leaving[broker] = (0, 0)
            self.wake(SUPERVISOR_SLOT)

    def break_log_dir(self, broker: int, index: int) -> None:
        """Its disk takes and gives nothing any more. Whoever meets that says so; at last the housekeeper."""
        path = self.brokers[broker].log_dirs.dirs[index].path
        self.world.tell("{} breaks", path)
        self.disks.broken.add(path)
        self._probe_later(broker)

    def lose_log_dirs(self, broker: int, indexes: Sequence[int]) -> None:
        """They are empty from now on, and others: their broker is killed before, if it runs."""
        self.kill_broker(broker)
        for index in indexes:
            log_dir = self.brokers[broker].log_dirs.dirs[index]
            self.world.tell("{} is lost, with all in it", log_dir.path)
            self.disks.lose(log_dir.path)
            if log_dir.path == self.brokers[broker].log_dirs.metadata_dir:
                assert self.quorum is not None
                self.quorum.controller(broker).empty_disk()

    def _probe_later(self, broker: int) -> None:
        """As its housekeeper does, each second."""
        self.in_this_run(self.world.random.randint(0, 1000), partial(self._probe, broker))

    def _probe(self, broker: int) -> None:
        log_dirs = self.brokers[broker].log_dirs
        for log_dir in log_dirs.dirs:
            if broker in self.running and log_dirs.probe(log_dir.path):
                log_dirs.fail(log_dir.path, log_dirs.probe(log_dir.path))
                self.processes[SUPERVISOR_SLOT].context.bells.ring_many(self.layout.controllers())

    def stop_all(self, *, power: bool) -> None:
        """Everybody is dead at once, and what is shared is gone; with power off so is what was not synced.
        Then all starts again.
        """
        self.world.tell("the power fails" if power else "everybody is killed")
        for slot in list(self.processes):
            controller = self.controllers.get(slot)
            if controller is not None:
                controller.member = None
            elif slot in self.processes:
                self.world.crash(self.name_of(slot))
        for controller in self.controllers.values():
            if controller.node is not None:
                controller.crash(power=power)
        self.processes.clear()
        self.workers.clear()
        self.gateways.clear()
        self.memory = self._new_memory()
        if power:
            self.disks.power_fails(self.world.random)
        for path, log in self.disks.logs.items():
            log.high_watermark = self.disks.checkpoints.get(path, (0, 0, 0))[1]
        self.readers.on_full_stop(power=power)
        self.start()

    # The supervisor.

    def _supervise(self) -> None:
        context = self.processes[SUPERVISOR_SLOT].context
        for slot, incarnation, ring in context.links.poll():
            assert isinstance(ring, ByteConsumer)
            for message in context.inbox.read(slot, incarnation, ring):
                if not context.obeys(slot):
                    continue
                if isinstance(message, WantWorker):
                    self.wanted.add(message.slot)
                    self._start_again(message.slot)
                elif isinstance(message, RetireWorker):
                    self.wanted.discard(message.slot)
                    self.kill(message.slot)
                elif isinstance(message, BrokerMayStop) and message.broker - FIRST_ID in self.leaving:
                    self._end_broker(message.broker - FIRST_ID)
        active = context.active_controller()
        for broker, asked in self.leaving.items():
            if active[0] and asked != active:
                self.leaving[broker] = active
                context.tell_controller(ShutDownBroker(broker=FIRST_ID + broker))
        context.outbox.flush()
        context.links.drop_dead()
        self.later(SUPERVISOR_SLOT, 20)

    def _end_broker(self, broker: int) -> None:
        self.kill_broker(broker)
        again_ms = self.world.random.randint(1, 4 * self.restart_ms)
        self.in_this_run(again_ms, partial(self.start_broker, broker))

    # What is written down now and then.

    def checkpoint(self) -> None:
        """As each broker's housekeeper does."""
        image = None if self.quorum is None else self.quorum.oracle.image
        table = self.memory.state_table
        newest: dict[str, tuple[int, list[int]]] = {}
        for row in range(self.layout.brokers, table.rows):
            if not table.sequence(row) or image is None:
                continue
            values = list(table.read(row))
            topic = image.topics_by_id.get(topic_id_bytes(values[rows.TOPIC_ID_HI], values[rows.TOPIC_ID_LO]))
            broker = self.layout.broker_of(values[rows.OWNER] >> 32)
            if topic is None or values[rows.PARTITION] >= len(topic.partitions):
                continue
            directory = topic.partitions[values[rows.PARTITION]].directory_of(FIRST_ID + broker)
            log_dir = self.brokers[broker].log_dirs.by_id(directory)
            if log_dir is not None and log_dir.path not in self.disks.broken:
                path = f"{log_dir.path}/{topic.name}-{values[rows.PARTITION]}"
                epoch = values[rows.LEADER_EPOCH]
                if path not in newest or epoch >= newest[path][0]:
                    newest[path] = (epoch, values)
        for path, (_, values) in newest.items():
            self.disks.checkpoint(path, values)


def _nothing(_source: str, _message: object) -> None:
    """Nobody sends it anything but by rings."""
