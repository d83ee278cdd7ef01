"""Five hundred injuries to three brokers; tests/faults/test_replicas_survive.py has sixty. CHAOS_SEED=n."""

import os
from pathlib import Path

import pytest

from tests.support.survival import survive

SEED = int(os.environ.get("CHAOS_SEED", "1"))


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("injuries", "protocol", "settings"),
    [
        (200, "classic", {"log_segment_bytes": "1048576"}),
        (150, "classic", {"flush_policy": "group"}),
        (150, "consumer", {}),
    ],
    ids=["page", "group", "kip-848"],
)
def test_hundreds_of_injuries(tmp_path: Path, injuries: int, protocol: str, settings: dict[str, str]) -> None:
    outcome = survive(tmp_path, SEED, injuries, protocol, **settings)
    assert outcome.summary.sent == outcome.summary.acknowledged == outcome.summary.stored
    print(outcome)
