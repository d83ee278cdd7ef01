"""When partitions without a leader are looked at, and nobody asks."""

from types import SimpleNamespace
from typing import Any

import pytest

from tailrace.core.config import load
from tailrace.workers.balance import Balance

KEY = "unclean.leader.election.interval.ms"


@pytest.mark.parametrize(("given", "interval_s"), [({}, 300.0), ({KEY: "7000"}, 7.0)])
def test_partitions_without_a_leader_are_looked_at_in_the_interval_that_is_configured(
    given: dict[str, str], interval_s: float
) -> None:
    config = load({"auto.leader.rebalance.enable": "false", **given})[0]
    looks: list[object] = []

    def replace(decide: object, _done: object) -> None:
        looks.append(decide)

    changes: Any = SimpleNamespace(may_elect=False, replace=replace)
    context: Any = SimpleNamespace(config=config)
    balance = Balance(context, changes, 100.0)
    assert balance.wait_s(100.0) == interval_s
    for round_ in (1, 2):
        balance.look(100.0 + round_ * interval_s - 0.5)
        assert len(looks) == round_ - 1
        balance.look(100.0 + round_ * interval_s)
        assert len(looks) == round_
