"""What crashes leave of logs at work, at any moment of it: all that was synced is there, nothing that was not
appended is, and the log goes on. tests/chaos has the long form.
"""

from itertools import count

import pytest

from tests.support.crash_run import explore_all

RUNS, STATES = 8, 300


@pytest.mark.parametrize("run", range(RUNS))
def test_logs_survive_crashes_at_any_moment(run: int) -> None:
    assert explore_all(count(run, RUNS), STATES) >= STATES
