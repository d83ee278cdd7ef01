"""Committed offsets equal a dict, whatever is written late, fails or is replayed by a successor."""

from random import Random
from typing import Any

import pytest

from tailrace.core.errors import COORDINATOR_NOT_AVAILABLE, NONE
from tests.support.group_offsets import OffsetClient, Offsets
from tests.support.group_runtime import FakeRuntime

GROUPS = ["", "a", "b", "c"]
TOPICS = {"one": 1, "two": 2, "three": 3}
STEPS = 300


class Model:
    """group -> partition -> offset; a change counts once its answer says so."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.runtime = FakeRuntime(topics=TOPICS)
        self.client = OffsetClient(self.runtime)
        self.client.restart()
        self.offsets: dict[str, dict[tuple[str, int], tuple[int, int]]] = {}
        self.waiting: list[tuple[str, str, Any, list[Any]]] = []

    def partitions(self) -> list[tuple[str, int]]:
        known = [(topic, partition) for topic, count in TOPICS.items() for partition in range(count)]
        return self.random.sample(known, self.random.randint(1, len(known)))

    def step(self) -> None:
        group = self.random.choice(GROUPS)
        act = self.random.choice(
            [
                self.commit,
                self.commit,
                self.commit,
                self.delete,
                self.remove,
                self.later,
                self.restart,
                self.age,
            ]
        )
        act(group)
        self.check()

    def commit(self, group: str) -> None:
        offsets: Offsets = {partition: self.random.randrange(1000) for partition in self.partitions()}
        version = self.random.randint(2, 10)
        self.ask("commit", group, offsets, lambda: self.client.commit(group, offsets, version))

    def delete(self, group: str) -> None:
        partitions = self.partitions()
        if group:
            self.ask("delete", group, partitions, lambda: self.client.delete_offsets(group, partitions))

    def remove(self, group: str) -> None:
        self.ask("remove", group, None, lambda: self.client.delete_groups(group))

    def ask(self, kind: str, group: str, what: Any, send: Any) -> None:
        """Some writes are late: later requests are decided before they are done."""
        self.runtime.holds = True
        self.waiting.append((kind, group, what, send()))
        if self.random.random() < 0.6:
            self.settle()

    def settle(self) -> None:
        """The writes are done, or fail, one after the other."""
        while self.runtime.is_holding:
            self.runtime.error = COORDINATOR_NOT_AVAILABLE if self.random.random() < 0.2 else NONE
            self.runtime.release(1)
        self.runtime.error = NONE
        self.runtime.holds = False
        for kind, group, what, answers in self.waiting:
            if _succeeded(kind, answers[0]):
                self.apply(kind, group, what)
        self.waiting.clear()

    def apply(self, kind: str, group: str, what: Any) -> None:
        kept = self.offsets.setdefault(group, {})
        if kind == "commit":
            kept.update({partition: (offset, self.runtime.time_ms) for partition, offset in what.items()})
        else:
            for partition in list(kept) if what is None else what:
                kept.pop(partition, None)

    def later(self, _: str) -> None:
        self.settle()

    def restart(self, _: str) -> None:
        self.settle()
        self.client.restart()

    def age(self, _: str) -> None:
        """Offsets of groups without members go when they are old, at the next look."""
        self.settle()
        config = self.runtime.config
        interval = config.offsets_retention_check_interval_ms
        self.runtime.advance(self.random.choice([interval, config.offsets_retention_ms // 2]))
        self.client.restart()
        self.runtime.advance(interval)
        oldest = self.runtime.time_ms - config.offsets_retention_ms
        for kept in self.offsets.values():
            for partition in [each for each, (_, since) in kept.items() if since <= oldest]:
                del kept[partition]

    def check(self) -> None:
        """What is under way is not seen."""
        for group in GROUPS:
            wanted = {partition: offset for partition, (offset, _) in self.offsets.get(group, {}).items()}
            version = self.random.randint(2, 9)
            assert self.client.fetch(group, version=version) == wanted, group


def _succeeded(kind: str, answer: Any) -> bool:
    if kind == "commit":
        return all(partition.error_code == NONE for topic in answer.topics for partition in topic.partitions)
    return bool((answer if kind == "delete" else answer.results[0]).error_code == NONE)


@pytest.mark.parametrize("seed", range(20))
def test_offsets_are_a_dict(seed: int) -> None:
    model = Model(seed)
    for _ in range(STEPS):
        model.step()
