"""What crashes leave of logs at work, at any moment of it: all that was synced is there, nothing that was not
appended is, and the log goes on. tests/chaos has the long form.
"""

from itertools import count
from random import Random

import pytest

from tests.support.crash_run import explore_all
from tests.support.log_checks import States, check
from tests.support.log_workload import Workload

RUNS, STATES = 8, 300


@pytest.mark.parametrize("run", range(RUNS))
def test_logs_survive_crashes_at_any_moment(run: int) -> None:
    assert explore_all(count(run, RUNS), STATES) >= STATES


@pytest.mark.parametrize("seed", range(4))
def test_a_deleted_log_leaves_nothing_to_the_next_of_its_name(seed: int) -> None:
    """(R) Whatever of its files is left, and in whatever order their names went."""
    work = Workload(seed)
    work.run(20)
    work.partitions["a"].append_some()
    work.partitions["a"].sync()
    before, begun = work.disk.killed(), len(work.disk.journal)
    histories = {topic: partition.opened.history for topic, partition in work.partitions.items()}
    work.partitions["a"].recreate()
    deletion = work.disk.journal[begun:]
    deletion = deletion[: [operation[0] for operation in deletion].index("folder")]  # of the next one
    deletion += [operation for operation in deletion if operation[0] == "note"] * 40  # most often at its end
    random = Random(seed)
    for state in States(before, histories, deletion, power=1.0).some(random, 100):
        check(state, random, deep=0)
