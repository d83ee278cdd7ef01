"""A log on a simulated disk that fills up and is freed at random: against a list of what it has acknowledged.

A store to what is not reserved fails the test (SimulatedMappedFile); a real one would be a SIGBUS.
"""

from random import Random

import pytest

from tailrace.core.errors import KafkaError
from tailrace.core.log.directory import is_full
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tailrace.core.records.batch import HEADER_SIZE
from tests.model.test_log_crashes import stored
from tests.support.simulated_directory import SimulatedDirectory
from tests.unit.log.logs import NOW, batch

CONFIG = LogConfig(
    segment_bytes=16 * 1024, index_interval_bytes=512, segment_index_bytes=1024, snapshot_interval_bytes=8192
)
PLENTY = 1 << 40


class Story:
    """One log, and what it has acknowledged."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.directory = SimulatedDirectory()
        self.acknowledged: list[bytes] = []  # by offset: batches of one record
        self.refusals = 0
        self._epoch = 0
        self.log: Log | None = None

    def step(self) -> None:
        """One thing that may happen to a log; what a full disk refuses changes nothing."""
        random = self._random
        if random.random() < 0.1:
            self.directory.disk.free = random.choice((0, 0, 1, 100, 5000, 100_000, PLENTY))
            return
        what = random.choices((self.append, self.roll, self.tick, self.delete, self.close), (60, 3, 5, 3, 3))[
            0
        ]
        try:
            if self.log is None:
                self.log = Log.open(self.directory, "t-0", CONFIG, now_ms=NOW)
                self.log.high_watermark = self.log.log_end_offset
            what(self.log)
        except (OSError, KafkaError) as error:
            if not is_full(error):
                raise
            self.refusals += 1

    def append(self, log: Log) -> None:
        """By an idempotent producer, which sends a refused batch again some time."""
        size, number = self._random.randrange(10, 4000), len(self.acknowledged)
        sent = batch(f"{number}".ljust(size, "."), producer=1, sequence=number)
        done = log.append_as_leader(sent, self._epoch, NOW)
        assert (done.base_offset, done.duplicate) == (number, False)
        self.acknowledged.append(bytes(sent[HEADER_SIZE:]))
        log.high_watermark = log.log_end_offset

    def roll(self, log: Log) -> None:
        """As by age."""
        log.roll(NOW)

    def tick(self, log: Log) -> None:
        """What comes with time, and a new leader."""
        self._epoch += self._random.random() < 0.3
        log.tick(NOW)
        log.flush()

    def delete(self, log: Log) -> None:
        """Some of the records, or all."""
        end = log.log_end_offset
        log.delete_records_before(self._random.choice((end, self._random.randint(0, end))), NOW)

    def close(self, log: Log) -> None:
        """In order or not; there need be no room for it."""
        self.log = None
        log.close(clean=self._random.random() < 0.5)

    def end(self) -> None:
        """With room everything is there, and the log goes on."""
        self.directory.disk.free = PLENTY
        if self.log is None:
            self.log = Log.open(self.directory, "t-0", CONFIG, now_ms=NOW)
        self.append(self.log)
        found = stored(self.log)
        first = found[0][0].base_offset
        assert [body for _, body in found] == self.acknowledged[first:]
        assert [header.base_offset for header, _ in found] == list(range(first, len(self.acknowledged)))
        self.log.close()


@pytest.mark.parametrize("seed", range(40))
def test_what_is_acknowledged_is_there_however_often_the_disk_fills_up(seed: int) -> None:
    story = Story(Random(seed))
    for _ in range(1500):
        story.step()
    story.end()
    assert story.refusals
    assert len(story.acknowledged) > 100
