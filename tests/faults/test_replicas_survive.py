"""Three brokers whose processes are killed and stand still, under clients of all kinds: nothing is lost,
repeated, turned round, different or left, and nothing waits for ever.
"""

from pathlib import Path

import pytest

from tests.support.survival import survive

SEED, INJURIES = 6, 60


@pytest.mark.timeout(300)
def test_sixty_injuries(tmp_path: Path) -> None:
    outcome = survive(tmp_path, SEED, INJURIES)
    assert outcome.injuries.total() >= INJURIES
    assert outcome.injuries.keys() == {"SIGKILL", "SIGSTOP", "stop"}
    assert outcome.summary.sent == outcome.summary.acknowledged == outcome.summary.stored
    assert outcome.topics
