"""Logs found on a disk after a crash: opened as a broker does, held against their history, used again.

A state is one thing that a crash at one moment of a journal may leave; `States` makes them, `check` opens
one.
"""

from collections.abc import Iterator
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from tailrace.core.log import checkpoints
from tailrace.core.log.log import Log
from tailrace.core.log.producer_state import ProducerState
from tailrace.core.log.reader import LogReader
from tailrace.core.log.segment import SNAPSHOT_SUFFIX
from tailrace.core.log.verification import verify
from tailrace.core.records.batch import HEADER_SIZE, parse_header
from tailrace.core.records.record import NewRecord, build_batch
from tests.support.log_history import Held, History, held_in
from tests.support.log_workload import LARGE, SMALL, Opened
from tests.support.simulated_directory import SimulatedDirectory
from tests.support.simulated_disk import Loss, Operation, SimulatedDisk, replay
from tests.unit.log.logs import NOW

Histories = dict[str, History]


class State(Struct, kw_only=True):
    """What a crash left."""

    disk: SimulatedDisk
    histories: Histories
    power: bool  # was lost; otherwise only processes died
    rows: bool  # what workers have published is still there
    at: int  # operation of the journal


class States:
    """The moments of a journal, and what crashes then leave: so often it is the power that goes."""

    def __init__(
        self, base: SimulatedDisk, histories: Histories, journal: list[Operation], power: float = 0.8
    ) -> None:
        self._disk, self._histories, self._journal, self._power = base, dict(histories), journal, power

    def some(self, random: Random, count: int) -> Iterator[State]:
        """So many of them, in the order of their moments. Ends the use of the base disk."""
        rare = [at for at, operation in enumerate(self._journal) if operation[0] not in ("store", "note")]
        moments = [random.randrange(len(self._journal)) for _ in range(count)]
        moments[::2] = [random.choice(rare) for _ in moments[::2]] if rare else moments[::2]
        moments.sort(reverse=True)
        for at, operation in enumerate(replay(self._disk, self._journal)):
            if operation[0] == "note":
                self._histories[operation[2].topic] = operation[2]
            while moments and moments[-1] == at:
                moments.pop()
                yield self._state(random, at, operation)

    def _state(self, random: Random, at: int, operation: Operation) -> State:
        histories = dict(self._histories)
        if random.random() < self._power:
            disk = self._disk.crash(Loss(random))
            return State(disk=disk, histories=histories, power=True, rows=False, at=at)
        kind, number, position, data = operation
        torn = (kind, number, position, data[: random.randint(0, len(data))]) if kind == "store" else None
        rows = random.random() < 0.5
        return State(disk=self._disk.killed(torn), histories=histories, power=False, rows=rows, at=at)


def check(state: State, random: Random, *, deep: int) -> int:
    """Opens what is there, and fails if it is not what has to be; with `deep` crashes again, so many times,
    while that was done. Returns how many states were looked at.
    """
    again = state.disk.killed() if deep else None
    for topic, one in state.histories.items():
        end = min(one.end, one.synced) if state.power else one.end  # what was published went with its reader
        state.histories[topic] = replace(one, end=end, row=one.row if state.rows else ())
    _set_strays_aside(state)
    for topic, history in list(state.histories.items()):
        opened = _open(state, topic, history)
        _check_log(opened, state.power)
        _go_on(opened, random)
        if random.random() < 0.2:
            _check_files(opened, random)
        elif random.random() < 0.5:
            opened.log.close(clean=False)
    if again is None:
        return 1
    done = 1
    for inner in States(again, state.histories, state.disk.journal).some(random, deep):
        done += check(inner, random, deep=random.choice((0, 0, 0, 1)))
    return done


def _set_strays_aside(state: State) -> None:
    """As the controller does when it starts; of one that lives, the worker deletes what it was told to."""
    root = SimulatedDirectory(state.disk)
    known = {history.topic_id for history in state.histories.values() if history.exists}
    for topic, history in state.histories.items():
        name = f"{topic}-0"
        if name not in root.names():
            continue
        if state.rows and not history.exists:
            checkpoints.take_back(root, topic, 0)
            SimulatedDirectory(state.disk, name).destroy()
            continue
        found = checkpoints.read_partition_metadata(SimulatedDirectory(state.disk, name))
        if found is not None and found not in known:
            root.rename(name, f"{name}.{state.at}-stray")


def _open(state: State, topic: str, history: History) -> Opened:
    if not history.exists:
        history = History(topic=topic, topic_id=b"after a deletion")
        state.disk.note(history)
    row = list(history.row) if state.rows and history.row else None
    config = LARGE if any(len(one.body) > 9000 for one in history.batches) else SMALL
    return Opened(state.disk, history, config, row, NOW)


def _check_log(opened: Opened, power: bool) -> None:
    log, start, history = opened.log, opened.start.log_start_offset, opened.history
    found = held_in(log)
    possible, first = history.batches, log.segments[0].base_offset
    at = possible.index(found[0]) if found and found[0] in possible else 0
    assert tuple(found) == possible[at : at + len(found)], "batches are invented, out of order or back again"
    assert not at or possible[at - 1].last_offset < start, "what is missing was not deleted"
    least = history.synced if power else history.end
    if not history.is_emptied:
        lost = [one for one in history.below(least) if one.last_offset >= start and one not in found]
        assert not lost, f"{len(lost)} batches are lost, from {lost[0].base_offset} on"
        assert history.starts[0] <= start <= history.starts[1], f"it starts at {start}, not {history.starts}"
        assert log.log_end_offset >= least, "offsets are given twice"
        assert log.log_end_offset == (found[-1].last_offset + 1 if found else max(start, first))
        assert log.log_start_offset == max(start, first)
    assert not found or found[0].base_offset == first, "it does not start with its first segment"
    assert log.log_start_offset <= log.high_watermark <= log.log_end_offset
    assert log.recovery_point <= log.log_end_offset
    _check_state(log, found, is_start_sure=history.starts[0] == history.starts[1])
    opened.note(
        batches=tuple(found),
        begins=found[0].base_offset if found else log.log_end_offset,
        end=log.log_end_offset,
        synced=log.log_end_offset if power else min(history.synced, log.log_end_offset),
        starts=(min(start, log.log_start_offset), log.log_start_offset),
        is_emptied=False,
    )


def _check_state(log: Log, found: list[Held], *, is_start_sure: bool) -> None:
    """Producers and epochs follow from the batches that are there, and from those deleted before them."""
    state = ProducerState()
    for one in found:
        place = (one.base_offset, one.last_offset, one.timestamp, 0)
        state.update(one.producer_id, 0, one.base_sequence, *place)
    known = log.producers.producers
    for number, expected in state.producers.items():
        assert number in known, "a producer is forgotten"
        assert known[number].last_sequence == expected.last_sequence
        assert known[number].last_offset == expected.last_offset
        assert known[number].last_timestamp == expected.last_timestamp
    first = log.segments[0].base_offset
    unknown = [known[number] for number in known if number not in state.producers]
    assert all(producer.last_offset < first for producer in unknown), "a producer of what is not there"
    epochs: dict[int, int] = {}
    for one in found:
        epochs.setdefault(one.leader_epoch, max(one.base_offset, log.log_start_offset))
    by_start = {start: epoch for epoch, start in epochs.items() if start < log.log_end_offset}
    expected_epochs = [(epoch, start) for start, epoch in by_start.items()]
    assert not is_start_sure or log.leader_epochs.entries == expected_epochs, "epochs"
    newest = log.max_timestamp()
    assert (newest[1] if newest else -1) == max((one.timestamp for one in found), default=-1), "times"


def _go_on(opened: Opened, random: Random) -> None:
    """Some appends, of which one is a repetition; perhaps more of what a log can do."""
    log = opened.log
    last = next((one for one in reversed(opened.history.batches) if one.producer_id >= 0), None)
    if last is not None:
        records = [NewRecord(value=b"", timestamp=NOW)] * (last.last_offset - last.base_offset + 1)
        sent = build_batch(
            records, producer_id=last.producer_id, producer_epoch=0, base_sequence=last.base_sequence
        )
        epoch = max(log.leader_epochs.latest, 0)
        assert log.append_as_leader(sent, epoch, NOW).duplicate, "a repetition is appended"
        _append(opened, b"known", last.producer_id, last.base_sequence + len(records))
    for _ in range(random.choice((0, 1, 4))):
        _append(opened, b"next".ljust(random.choice((1, 440, 2000)), b"."), -1, -1)
    if random.random() < 0.2:
        log.roll(NOW)
        _append(opened, b"rolled", -1, -1)
    if random.random() < 0.2:
        log.flush()
        opened.note(synced=log.recovery_point)


def _append(opened: Opened, value: bytes, producer: int, sequence: int) -> None:
    log, base = opened.log, opened.log.log_end_offset
    epoch = max([log.leader_epochs.latest, 0, *(one.leader_epoch for one in opened.history.batches)])
    sent = build_batch(
        [NewRecord(value=value, timestamp=NOW)],
        producer_id=producer,
        producer_epoch=0 if producer >= 0 else -1,
        base_sequence=sequence,
    )
    held = Held(base, base, epoch, producer, sequence, NOW, bytes(sent[HEADER_SIZE:]))
    opened.note(batches=(*opened.history.batches, held))
    log.append_as_leader(sent, epoch, NOW)
    opened.note(end=log.log_end_offset)


def _check_files(opened: Opened, random: Random) -> None:
    """Every offset is found by its index; after a stop the files agree, and the log opens as it was."""
    log, history = opened.log, opened.history
    reader = LogReader(opened.directory)
    for one in random.sample(history.batches, min(len(history.batches), 5)):
        located = reader.locate_in(log, one.last_offset, 1)
        assert located is not None, f"offset {one.last_offset} is not found"
        data = located.file.read(located.position, located.length)
        assert Held.of(parse_header(data), data[HEADER_SIZE:]) == one
    log.close()
    opened.note(synced=history.end)
    verified = verify(opened.directory, records=True)
    faults = [fault for fault in verified.faults if not fault.file.endswith(SNAPSHOT_SUFFIX)]
    assert not faults, faults
    again = Opened(opened.disk, replace(history, synced=history.end), SMALL, None, NOW)
    left = tuple(held_in(again.log))
    gone = history.batches[: len(history.batches) - len(left)]
    assert gone + left == history.batches, "a stop has changed what is there"
    assert all(one.last_offset < log.log_start_offset for one in gone), "more is gone than was deleted"
    again.log.close(clean=random.random() < 0.5)
