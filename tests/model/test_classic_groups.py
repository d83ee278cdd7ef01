"""Clients of a classic group that join, sync, change their minds, leave and die, a coordinator that restarts,
and writes that are late or fail, all by a seed.

The model is what clients were told: in no generation has a partition two owners, who leads is told one way,
and all members speak the protocol. When the trouble ends the group settles, and at last nobody waits.
"""

from random import Random
from typing import Any

import pytest

from tailrace.core.errors import KAFKA_STORAGE_ERROR, MEMBER_ID_REQUIRED, NONE, REBALANCE_IN_PROGRESS
from tests.support.classic_group import ClassicBench

SESSION_MS = 6_000
REBALANCE_MS = 10_000
SETTLES_MS = REBALANCE_MS + 3 * SESSION_MS
PARTITIONS = bytes(range(7))
PROTOCOLS = [{"range": b"1"}, {"range": b"2", "sticky": b""}, {"sticky": b"3", "range": b""}]


class Model:
    """What clients were told of each generation, and every answer that is due."""

    def __init__(self) -> None:
        self.owners: dict[tuple[int, int], str] = {}  # (generation, partition) -> name of the client
        self.leaders: dict[tuple[int, int], str] = {}  # (restart, generation) -> member id
        self.protocols: dict[tuple[int, int], str | None] = {}
        self.restarts = 0
        self.due: list[list[Any]] = []

    def joined(self, answer: Any, protocols: dict[str, bytes]) -> None:
        """A client was told of a generation."""
        key = (self.restarts, answer.generation_id)
        assert answer.protocol_name in protocols
        assert self.protocols.setdefault(key, answer.protocol_name) == answer.protocol_name
        if answer.members:  # others may be told of a leader that has another id by now
            assert (
                self.leaders.setdefault(key, answer.member_id) == answer.member_id or answer.skip_assignment
            )
            assert all(member.metadata is not None for member in answer.members)

    def assigned(self, name: str, generation: int, partitions: bytes) -> None:
        """A client owns these."""
        for partition in partitions:
            assert self.owners.setdefault((generation, partition), name) == name


class Client:
    """Behaves as clients do, until it dies: then it is another one of the same name."""

    def __init__(self, bench: ClassicBench, model: Model, name: str, is_static: bool) -> None:
        self.bench, self.model, self.name = bench, model, name
        self.instance = name if is_static else None
        self.protocols = PROTOCOLS[0]
        self.start()

    def start(self) -> None:
        """Knows nothing and waits for nothing."""
        self.member_id, self.generation, self.state = "", -1, "out"
        self.answers: list[Any] | None = None
        self.to_assign: dict[str, bytes] = {}

    def step(self) -> None:
        """Take an answer that is there, or ask the next thing."""
        if self.answers is None:
            answers: list[Any] = getattr(self, f"ask_{self.state}")()
            self.answers = answers
            self.model.due.append(answers)
        if self.answers:
            answer, self.answers = self.answers[0], None
            if answer.error_code == NONE:
                getattr(self, f"heard_{self.state}")(answer)
            elif answer.error_code == MEMBER_ID_REQUIRED:
                self.member_id = answer.member_id
            else:
                member_id = self.member_id if answer.error_code == REBALANCE_IN_PROGRESS else ""
                self.start()
                self.member_id = member_id

    def ask_out(self) -> list[Any]:
        """JoinGroup."""
        times = {"session_timeout_ms": SESSION_MS, "rebalance_timeout_ms": REBALANCE_MS}
        return self.bench.join(self.member_id, self.protocols, instance=self.instance, **times)

    def heard_out(self, answer: Any) -> None:
        """The next generation began."""
        self.model.joined(answer, self.protocols)
        self.member_id, self.generation, self.state = answer.member_id, answer.generation_id, "joined"
        ids = [] if answer.skip_assignment else [member.member_id for member in answer.members]
        self.to_assign = {each: PARTITIONS[at :: len(ids)] for at, each in enumerate(ids)}

    def ask_joined(self) -> list[Any]:
        """SyncGroup."""
        return self.bench.sync(
            self.member_id, self.to_assign, generation=self.generation, instance=self.instance
        )

    def heard_joined(self, answer: Any) -> None:
        """It has its partitions."""
        self.model.assigned(self.name, self.generation, answer.assignment)
        self.state = "stable"

    def ask_stable(self) -> list[Any]:
        """Heartbeat."""
        return self.bench.heartbeat_answer(self.member_id, self.generation, self.instance)

    def heard_stable(self, _: Any) -> None:
        """All is well."""


class Run:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.model = Model()
        self.bench = ClassicBench(
            group_initial_rebalance_delay_ms=self.random.choice([0, 2_000]),
            group_max_size=self.random.choice([4, 2**31 - 1]),
        )
        self.clients = [Client(self.bench, self.model, f"c{at}", at % 3 == 0) for at in range(6)]

    def trouble(self) -> None:
        """One thing happens."""
        client, runtime = self.random.choice(self.clients), self.bench.runtime
        match self.random.choices(
            ["step", "time", "die", "leave", "change", "write", "restart"], [40, 25, 5, 3, 4, 6, 1]
        )[0]:
            case "step":
                client.step()
            case "time":
                runtime.advance(self.random.choice([1, 500, 3_000]))
            case "die":
                client.start()
            case "leave" if client.member_id:
                self.model.due.append(self.bench.leave_answer((client.member_id, client.instance)))
                client.start()
            case "change" if client.answers is None:
                client.protocols, client.state = self.random.choice(PROTOCOLS), "out"
            case "write":
                runtime.holds = self.random.random() < 0.3
                runtime.error = KAFKA_STORAGE_ERROR if self.random.random() < 0.2 else NONE
                if not runtime.holds:
                    runtime.release()
            case "restart":
                self.restart()
            case _:
                pass

    def restart(self) -> None:
        """The coordinator dies: writes under way fail, answers are lost, clients ask again."""
        runtime = self.bench.runtime
        runtime.holds, runtime.error = False, self.random.choice([NONE, KAFKA_STORAGE_ERROR])
        runtime.release()
        runtime.error = NONE
        self.bench.restart()
        self.model.restarts += 1
        self.model.due.clear()
        for client in self.clients:
            client.answers, client.state = None, "out" if client.state != "stable" else "stable"

    def settle(self) -> None:
        """No more trouble; as many clients as may be in the group show up."""
        runtime = self.bench.runtime
        runtime.holds, runtime.error = False, NONE
        runtime.release()
        clients = self.clients[: min(len(self.clients), runtime.config.group_max_size)]
        for _ in range(SETTLES_MS // 500):
            runtime.advance(500)
            for client in clients * 3:
                client.step()
        group = self.bench.group
        assert group.state == "Stable"
        assert {(client.state, client.generation) for client in clients} == {("stable", group.generation)}
        assert {client.member_id for client in clients} == set(group.members.by_id)
        owned = [at for at in PARTITIONS if (group.generation, at) in self.model.owners]
        assert owned == list(PARTITIONS)

    def check_replay(self) -> None:
        """Another coordinator that reads the log has the same group."""
        before = self.bench.group
        shown, topics = before.describe(), before.subscribed_topics()
        self.restart()
        after = self.bench.group
        assert (after.describe(), after.subscribed_topics()) == (shown, topics)
        assert (after.generation, after.members.leader) == (before.generation, before.members.leader)

    def end(self) -> None:
        """All are gone: nobody is left waiting, nothing is left to do."""
        self.bench.runtime.advance(300_000 + SETTLES_MS)
        assert all(self.model.due)
        assert self.bench.group.state == "Empty"
        assert self.bench.runtime.timers.next_deadline_ms() is None


@pytest.mark.parametrize("seed", range(60))
def test_a_group_in_trouble_stays_sound_and_settles(seed: int) -> None:
    run = Run(seed)
    for _ in range(3):
        for _ in range(150):
            run.trouble()
        run.settle()
        run.check_replay()
    run.end()
