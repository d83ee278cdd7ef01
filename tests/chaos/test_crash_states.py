"""A hundred thousand states that crashes leave of logs at work, on a simulated disk.

TAILRACE_CRASH_STATES sets how many, TAILRACE_CRASH_SEED the first workload; by default each run has others.
"""

import faulthandler
import os
import time
from itertools import count

import pytest

from tests.support.crash_run import explore_all


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_logs_survive_crashes_at_any_moment() -> None:
    wanted = int(os.environ.get("TAILRACE_CRASH_STATES", "100000"))
    first = int(os.environ.get("TAILRACE_CRASH_SEED") or int.from_bytes(os.urandom(4), "big"))
    faulthandler.cancel_dump_traceback_later()  # it takes minutes, and says so itself
    begun = time.monotonic()
    done = explore_all(count(first), wanted)
    print(f"{done} states, from seed {first} on, in {time.monotonic() - begun:.0f} s")
