"""Logs on a simulated disk whose records are deleted: these stay away after a loss of power, no others go."""

from collections.abc import Callable
from random import Random

import pytest

from tailrace.core.errors import OFFSET_OUT_OF_RANGE, KafkaError
from tailrace.core.log.log import Log
from tests.model.test_log_crashes import CONFIG, Stored, Workload, filled, replayed, stored
from tests.support.simulated_directory import PAGE, SECTOR, SimulatedDirectory
from tests.unit.log.logs import NOW, batch

Placed = list[tuple[int, bytes]]
"""Base offset and records of each batch."""


def placed(found: list[Stored]) -> Placed:
    """Where they lie."""
    return [(header.base_offset, body) for header, body in found]


def check(
    directory: SimulatedDirectory, possible: Placed, synced: Placed, point: int, mark: int, start: int
) -> Placed:
    """Recovers a log that was said to start at `start`, and appends one more. Returns what it holds then."""
    log = Log.open(
        directory,
        "t-0",
        CONFIG,
        now_ms=NOW,
        recovery_point=point,
        high_watermark=mark,
        log_start_offset=start,
    )
    headers = stored(log)
    found = placed(headers)
    first = log.segments[0].base_offset
    assert found in (possible[at : at + len(found)] for at in range(len(possible) + 1)), "nothing is invented"
    assert all(one in found for one in synced if one[0] >= start), "what was synced and not deleted is there"
    assert log.log_start_offset == max(start, first)
    assert all(segment.base_offset > start for segment in log.segments[1:]), "nothing is left that can go"
    end = headers[-1][0].last_offset + 1 if headers else max(start, first)
    assert log.log_end_offset == end >= start
    check_state(log, headers)
    assert log.append_as_leader(batch("next"), 99, NOW).base_offset == end
    held = placed(stored(log))
    assert held[:-1] == found
    log.close(clean=False)
    return held


def check_state(log: Log, found: list[Stored]) -> None:
    """Producers and epochs follow from the batches that are there, and from what came before them."""
    expected, got = replayed(found).producers, log.producers.producers
    assert {i: (p.epoch, p.last_sequence) for i, p in expected.items()} == {
        i: (got[i].epoch, got[i].last_sequence) for i in expected
    }
    first = log.segments[0].base_offset
    assert all(got[i].last_offset < first for i in got if i not in expected), "no producer of lost batches"
    epochs: dict[int, int] = {}
    for header, _ in found:
        epochs.setdefault(header.leader_epoch, max(header.base_offset, log.log_start_offset))
    by_start = {start: epoch for epoch, start in epochs.items() if start < log.log_end_offset}
    assert log.leader_epochs.entries == [(epoch, start) for start, epoch in by_start.items()]


class Deletions(Workload):
    """The same work, and records are deleted now and then."""

    def __init__(self, seed: int) -> None:
        self.start = 0  # as written down: on the disk at once
        super().__init__(seed, publishes=True)
        self.log.on_start_moved = self.move_start

    def move_start(self, offset: int) -> None:
        """The checkpoint of the log directory."""
        self.start = offset

    def maybe_crash(self, chance: float = 0.01) -> None:
        """See Workload."""
        if self.random.random() >= chance:
            return
        self.crashes += 1
        possible = list(zip([0, *self.ends], self.possible, strict=False))
        synced, point = possible[: self.synced], self.recovery_point
        if self.crashes % 8 == 0:
            mark = self.log.high_watermark
            check(self.directory.killed(), possible, synced, point, mark, self.start)
            return
        unit = self.random.choice((SECTOR, PAGE))
        after = self.directory.crash(self.random, unit)
        held = check(after, possible, synced, point, 0, self.start)
        synced = [one for one in synced if one in held]
        check(after.crash(self.more_random, unit), held, synced, point, 0, self.start)

    def close(self) -> None:
        """See Workload."""
        self.log.close()
        self.synced = len(self.possible)
        self.log = Log.open(
            self.directory,
            "t-0",
            CONFIG,
            now_ms=NOW,
            recovery_point=self.recovery_point,
            high_watermark=self.log.high_watermark,
            log_start_offset=self.start,
        )
        self.log.on_start_moved = self.move_start

    def delete(self) -> None:
        """Up to any offset, or all there is."""
        log = self.log
        log.high_watermark = log.log_end_offset
        offset = self.random.choice((log.log_end_offset, self.random.randint(self.start, log.log_end_offset)))
        log.delete_records_before(offset, NOW)
        assert log.log_start_offset == self.start == offset

    def run(self, steps: int) -> None:
        """See Workload."""
        operations: list[tuple[int, Callable[[], None]]] = [
            (80, self.append), (3, lambda: self.log.roll(NOW)), (5, self.flush), (3, self.truncate),
            (3, self.close), (8, self.delete), (20, self.publish),
        ]  # fmt: skip
        weights, calls = [weight for weight, _ in operations], [call for _, call in operations]
        for call in self.random.choices(calls, weights, k=steps):
            call()
            self.maybe_crash(0.4)


@pytest.mark.parametrize("seed", range(24))
def test_deleted_records_stay_away_and_no_others_go(seed: int) -> None:
    """(R) At whatever moment the power goes, also in the middle of a deletion."""
    work = Deletions(seed)
    work.run(120)
    assert work.crashes >= 25


def test_where_the_log_starts_is_written_down_before_anything_goes() -> None:
    """(R) Or a crash between brings back what is below, without what was in the middle."""
    directory = SimulatedDirectory()
    log = filled(directory)
    log.high_watermark = log.log_end_offset
    log.on_start_moved = lambda offset: directory.happened("start", "", offset)
    bases = [segment.base_offset for segment in log.segments]
    directory.events.clear()
    log.delete_records_before(log.log_end_offset, NOW)
    events = [(kind, name) for kind, name, *_ in directory.events]
    removed = [("remove", f"{base:020d}.log") for base in bases]
    created = ("create", f"{log.log_end_offset:020d}.log")
    wanted = {("start", ""), created, *removed}
    assert [one for one in events if one in wanted] == [("start", ""), *removed[:-1], created, removed[-1]]
    assert ("sync", "") in events[events.index(created) : events.index(removed[-1])], "one of them is there"
    log.close(clean=False)


def test_a_log_that_lost_all_but_what_was_deleted_goes_on_where_it_was_said_to_start() -> None:
    """(R) No offset is given twice, whatever was lost of the log."""
    directory = SimulatedDirectory()
    log = filled(directory)
    log.high_watermark = log.log_end_offset
    at = log.log_end_offset + 3
    segment_name = f"{at:020d}.log"
    for seed in range(50):
        left = directory.crash(Random(seed), SECTOR)
        after = Log.open(left, "t-0", CONFIG, now_ms=NOW, log_start_offset=at)
        assert (after.log_start_offset, after.log_end_offset, after.high_watermark) == (at, at, at)
        assert [segment.base_offset for segment in after.segments] == [at]
        done = [(kind, name) for kind, name, *_ in left.events]
        last = max(
            number for number, event in enumerate(done) if event[0] == "remove" and event[1].endswith(".log")
        )
        made = done.index(("replace", segment_name))
        assert ("sync", "") in done[made:last], "the new segment is there before the last one goes"
        assert after.append_as_leader(batch("next"), 0, NOW).base_offset == at
        after.close(clean=False)
    log.close(clean=False)


@pytest.mark.parametrize("offset", [-2, -1, 41])
def test_only_what_is_committed_can_be_deleted(offset: int) -> None:
    directory = SimulatedDirectory()
    log = filled(directory)
    log.high_watermark = 40
    log.on_start_moved = lambda moved: pytest.fail(f"moved to {moved}")
    with pytest.raises(KafkaError) as refused:
        log.delete_records_before(offset, NOW)
    assert refused.value.code == OFFSET_OUT_OF_RANGE
    assert log.log_start_offset == 0
    log.close(clean=False)
