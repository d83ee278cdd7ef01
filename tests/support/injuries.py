"""What befalls a host with three brokers: kill -9 and SIGSTOP of every kind of process, whole brokers, all.

An injury is chosen and done by `Injuries.next`, from a seed; what does not come back by itself is started by
`heal`. Processes are looked up in the tables that the host shares: a look costs no process of its own.
"""

import os
import random
import select
import signal
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from perf.peers.tailrace_cluster import TailraceCluster
from perf.processes import kill, tree
from perf.whereabouts import Guide, wait_until_whole
from tailrace.core.ids import parse_uuid
from tailrace.workers.status import ProcessStatus, ask_supervisor, read_status
from tests.support.waiting import wait_until

SHORT_S = (0.05, 0.6)  # of a pause that is over before anybody takes it for a stall
STALL_MS = 2_000  # the shortest that the supervisor takes
LONG_S = (1.5, 3.5)  # of a pause for which some, all or none are killed
ROLES = ("controller", "gateway", "housekeeper", "worker")
PATIENCE_S = 60.0

Choose = Callable[[], ProcessStatus]
"""Looks up who is meant."""


class Injuries:
    """On a cluster whose topic the others are about; `random` is all the chance there is."""

    def __init__(self, cluster: TailraceCluster, guide: Guide, topic: str, chance: random.Random) -> None:
        self._cluster, self._guide, self._topic, self._chance = cluster, guide, topic, chance
        self.data = str(cluster.directory / "data")
        self._away: set[int] = set()
        self._never = threading.Event()
        self.counts = Counter[str]()  # by what was done: SIGKILL, SIGSTOP, stop; a whole broker counts once

    # Who is who.

    def process(self, broker: int, role: str) -> ProcessStatus:
        """The one of this role."""
        return self._look(lambda each: each.broker == broker and each.role == role, f"{role} of {broker}")[0]

    def all_of(self, broker: int) -> list[ProcessStatus]:
        """Every process of a broker, of each role at least one. The supervisor, in whose row stands 0, is
        nobody's.
        """

        def belongs(each: ProcessStatus) -> bool:
            return each.broker == broker and each.role in ROLES

        return self._look(belongs, f"all of {broker}", len(ROLES))

    def holder(self, broker: int, partition: int) -> ProcessStatus:
        """The worker of a broker that has this partition of the topic."""
        topic_id = self.topic_id()

        def holds(each: ProcessStatus) -> bool:
            held = {(part.topic_id, part.partition) for part in each.partitions}
            return each.broker == broker and each.role == "worker" and (topic_id, partition) in held

        return self._look(holds, f"a worker of {broker} with {partition}")[0]

    def _look(
        self, is_meant: Callable[[ProcessStatus], bool], what: str, roles: int = 1
    ) -> list[ProcessStatus]:
        found: list[ProcessStatus] = []

        def look() -> bool:
            status = read_status(self.data)
            found[:] = [each for each in (status.processes if status else ()) if each.pid and is_meant(each)]
            return len({each.role for each in found}) >= roles

        wait_until(look, what, PATIENCE_S)
        return found

    def topic_id(self) -> bytes:
        """Of the topic, as a replica of it says."""
        paths = Path(self.data).glob(f"broker-*/{self._topic}-0/partition.metadata")
        text = next(paths).read_text()
        return parse_uuid(text.partition("topic_id: ")[2].split()[0])

    def _partition(self) -> int:
        return self._chance.randrange(len(list(Path(self.data).glob(f"broker-0/{self._topic}-*"))))

    def leader(self) -> ProcessStatus:
        """The worker that leads some partition."""
        partition = self._partition()
        leaders: list[int] = []

        def has_leader() -> bool:
            leaders[:] = [self._guide.partition(self._topic, partition).leader]
            return leaders[0] >= 0

        wait_until(has_leader, "a leader", PATIENCE_S)
        return self.holder(leaders[0], partition)

    def follower(self) -> ProcessStatus:
        """A worker that follows in some partition."""
        partition = self._partition()
        part = self._guide.partition(self._topic, partition)
        return self.holder(self._chance.choice([one for one in (0, 1, 2) if one != part.leader]), partition)

    def active(self) -> int:
        """The broker whose controller decides."""
        found: list[int] = []

        def is_known() -> bool:
            found[:] = [self._guide.quorum(patience_s=2.0).leader]
            return found[0] >= 0

        wait_until(is_known, "a controller that decides", PATIENCE_S)
        return found[0]

    def controller(self) -> ProcessStatus:
        """The one that decides."""
        return self.process(self.active(), "controller")

    def standby(self) -> ProcessStatus:
        """A controller that does not decide."""
        active = self.active()
        return self.process(self._chance.choice([one for one in (0, 1, 2) if one != active]), "controller")

    def gateway(self) -> ProcessStatus:
        """Some gateway."""
        return self.process(self._chance.randrange(3), "gateway")

    def housekeeper(self) -> ProcessStatus:
        """Some housekeeper."""
        return self.process(self._chance.randrange(3), "housekeeper")

    # What is done to them. Each returns what it did, in words.

    def kill(self, *choose: Choose) -> str:
        """Kill them at once."""
        chosen = [each() for each in choose]
        kill({each.pid for each in chosen})
        self.counts["SIGKILL"] += len(chosen)
        return "kill " + " and ".join(f"{each.role} of {each.broker}" for each in chosen)

    def kill_again(self, choose: Choose) -> str:
        """Kill it, and at once whoever comes in its place."""
        return f"{self.kill(choose)}, {self.kill(choose)}"

    def pause(self, choose: Choose) -> str:
        """Stand still, but for so short a time that nobody is killed for it."""
        chosen = choose()
        return f"pause {chosen.role} of {chosen.broker}{self._pause([chosen], SHORT_S)}"

    def pause_broker(self, broker: int, span: tuple[float, float]) -> str:
        """All of its processes stand still; those that were not killed for it meanwhile go on together."""
        return f"pause broker {broker}{self._pause(self.all_of(broker), span)}"

    def _pause(self, chosen: list[ProcessStatus], span: tuple[float, float]) -> str:
        seconds = self._chance.uniform(*span)
        with _stopped(each.pid for each in chosen) as stopped:
            self._never.wait(seconds)
            ended = len(_ended(stopped))
        self.counts["SIGSTOP"] += 1
        return f" for {seconds:.2f} s" + (f", {ended} of {len(stopped)} ended meanwhile" if ended else "")

    def stall(self, choose: Choose) -> str:
        """Stand still until the supervisor kills it."""
        chosen = choose()
        with _stopped([chosen.pid]) as stopped:
            wait_until(
                lambda: len(_ended(stopped)) == len(stopped),
                f"the end of {chosen.role} of {chosen.broker}, which stands still",
                PATIENCE_S,
            )
        self.counts["SIGSTOP"] += 1
        return f"stall {chosen.role} of {chosen.broker}"

    def kill_processes(self, broker: int) -> str:
        """All of a broker at once, behind the supervisor's back: it starts them again one by one."""
        chosen = self.all_of(broker)
        kill(each.pid for each in chosen)
        self.counts["SIGKILL"] += 1
        return f"kill all {len(chosen)} of broker {broker}"

    def kill_broker(self, broker: int) -> str:
        """All of its processes, by the supervisor, for good; it is started by `heal`."""
        ask_supervisor(self.data, "kill", broker, PATIENCE_S)
        self._away.add(broker)
        self.counts["SIGKILL"] += 1
        return f"kill broker {broker}"

    def stop_broker(self, broker: int) -> str:
        """In order; it is started by `heal`."""
        ask_supervisor(self.data, "stop", broker, PATIENCE_S)
        self._away.add(broker)
        self.counts["stop"] += 1
        return f"stop broker {broker}"

    def kill_brokers(self, count: int) -> str:
        """So many one after the other; all but one are started again, together: none serves before more than
        half do. The one that is left may be the only one that has all.
        """
        partitions = len(list(Path(self.data).glob(f"broker-0/{self._topic}-*")))
        wait_until_whole(self._guide, self._topic, 3, partitions)
        brokers = self._chance.sample(range(3), count)
        done = ", ".join(map(self.kill_broker, brokers))
        back = self._chance.sample(brokers, count - 1)
        with ThreadPoolExecutor(len(back)) as aside:
            list(aside.map(self._start_broker, back))
        return f"{done}, start {' and '.join(map(str, back))}"

    def _start_broker(self, broker: int) -> None:
        ask_supervisor(self.data, "start", broker, PATIENCE_S)
        self._away.discard(broker)

    def kill_all(self) -> str:
        """The supervisor and all others, and a start as the machine's init would do it."""
        (root,) = self._cluster.roots()
        kill(tree(root))
        self.counts["SIGKILL"] += 1
        self._cluster.stop()
        self._cluster.start()
        return "kill all"

    def restart_all(self) -> str:
        """An orderly stop and start."""
        self._cluster.stop()
        self._cluster.start()
        self.counts["stop"] += 1
        return "restart all"

    def heal(self) -> None:
        """Start the brokers that are not there."""
        for broker in sorted(self._away):
            self._start_broker(broker)

    @property
    def away(self) -> int:
        """How many brokers wait for `heal`."""
        return len(self._away)

    # Which is next.

    def next(self) -> str:
        """Do one, drawn with weights."""
        acts = self._acts()
        (act,) = self._chance.choices([act for _, act in acts], [weight for weight, _ in acts])
        return act()

    def _acts(self) -> list[tuple[int, Callable[[], str]]]:
        kinds = (self.leader, self.follower, self.controller, self.standby, self.gateway, self.housekeeper)

        def some() -> Choose:
            return self._chance.choice(kinds)

        return [
            (8, lambda: self.kill(self.leader)),
            (6, lambda: self.kill(self.follower)),
            (6, lambda: self.kill(self.controller)),
            (3, lambda: self.kill(self.standby)),
            (3, lambda: self.kill(self.gateway)),
            (1, lambda: self.kill(self.housekeeper)),
            (4, lambda: self.kill(some(), some())),
            (3, lambda: self.kill(self.leader, self.controller)),
            (3, lambda: self.kill(self.leader, self.follower)),
            (3, lambda: self.kill_again(self.leader)),
            (2, lambda: self.kill_again(self.controller)),
            (6, lambda: self.pause(some())),
            (2, lambda: self.stall(some())),
            (3, lambda: self.pause_broker(self.leader().broker, SHORT_S)),
            (1, lambda: self.pause_broker(self.leader().broker, LONG_S)),
            (2, lambda: self.pause_broker(self.active(), SHORT_S)),
            (2, lambda: self.kill_processes(self.leader().broker)),
            (1, lambda: self.kill_processes(self.active())),
            (4, lambda: self.kill_broker(self.leader().broker)),
            (2, lambda: self.kill_broker(self._chance.randrange(3))),
            (2, lambda: self.kill_brokers(2)),
            (1, lambda: self.kill_brokers(3)),
            (2, lambda: self.stop_broker(self._chance.randrange(3))),
            (1, self.kill_all),
            (1, self.restart_all),
        ]


@contextmanager
def _stopped(pids: Iterable[int]) -> Generator[list[int]]:
    """SIGSTOP to each that lives, SIGCONT to them in the end; yields their pidfds: who takes the number of
    one that died meanwhile is not meant.
    """
    pidfds: list[int] = []
    with ExitStack() as stack:
        for pid in pids:
            with suppress(ProcessLookupError):
                pidfds.append(pidfd := os.pidfd_open(pid))
                stack.callback(os.close, pidfd)
                signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
                stack.callback(_continue, pidfd)
        yield pidfds


def _continue(pidfd: int) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGCONT)


def _ended(pidfds: list[int]) -> list[int]:
    return select.select(pidfds, [], [], 0)[0]
