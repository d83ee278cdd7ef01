"""Slots are reused, incarnations never."""

from pathlib import Path

import pytest

from tailrace.shm import slots as slots_module
from tailrace.shm.region import ShmError
from tailrace.shm.slots import (
    CONTROLLER,
    CONTROLLER_NEWS,
    CURRENT_ROW,
    DEAD_INCARNATION,
    DEATH_COUNT,
    FREE,
    GATEWAY,
    INCARNATION,
    PARKED,
    READY,
    ROLE,
    STARTING,
    STATE,
    SUPERVISOR,
    WORKER,
    Layout,
    SlotTable,
    role_name,
    row_start,
    state_name,
)
from tests.support.watched_words import WatchedWords


def test_fresh_slots_are_free_and_nobody_lives_in_them(tmp_path: Path) -> None:
    table = SlotTable.create(str(tmp_path / "slots"), 5)
    assert [table.live_incarnation(slot) for slot in range(5)] == [0] * 5
    assert not any(table.is_live(slot, 0) for slot in range(5))
    assert [table.current_row(slot) for slot in range(5)] == [-1] * 5


def test_successor_has_a_new_incarnation_and_a_clean_row(tmp_path: Path) -> None:
    table = SlotTable.create(str(tmp_path / "slots"), 5)
    first = table.begin(2, GATEWAY, 1, 0)
    other = table.begin(3, WORKER, 0, 4)
    table.set_state(2, READY)
    table.set_current_row(2, 17)
    table.add_progress(2)
    table.set_long_operation(2, 1)
    table.mark_dead(2, first)
    assert (table.is_live(2, first), table.live_incarnation(2), table.state(2)) == (False, 0, FREE)
    assert table.death_count() == 1
    second = table.begin(2, WORKER, 2, 6)
    assert len({first, other, second}) == 3
    assert (table.is_live(2, second), table.is_live(2, first)) == (True, False)
    assert (table.role(2), table.broker(2), table.index(2), table.state(2)) == (WORKER, 2, 6, STARTING)
    assert (table.current_row(2), table.progress(2), table.long_operation(2)) == (-1, 0, 0)


def test_slot_of_a_process_not_proven_dead_is_not_given_away(tmp_path: Path) -> None:
    table = SlotTable.create(str(tmp_path / "slots"), 2)
    table.begin(1, WORKER, 0, 0)
    with pytest.raises(AssertionError):
        table.begin(1, WORKER, 0, 0)


def test_a_row_is_whole_before_its_incarnation_and_a_death_there_before_its_count(tmp_path: Path) -> None:
    """(R) Whoever sees the word that is stored last finds all the rest."""
    table = SlotTable.create(str(tmp_path / "slots"), 2)
    stored: list[int] = []
    table.words = WatchedWords(table.words, stored.append)  # type: ignore[assignment]
    row = row_start(1)
    incarnation = table.begin(1, WORKER, 0, 0)
    assert stored.index(row + INCARNATION) == len(stored) - 1
    assert set(stored) >= {row + word for word in (ROLE, STATE, PARKED, CURRENT_ROW)}
    stored.clear()
    table.mark_dead(1, incarnation)
    assert stored[-1] == DEATH_COUNT
    assert stored.index(row + DEAD_INCARNATION) < len(stored) - 1


def test_run_that_has_used_up_its_incarnations_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots_module, "INCARNATIONS_MAX", 2)
    table = SlotTable.create(str(tmp_path / "slots"), 4)
    assert [table.begin(slot, WORKER, 0, slot) for slot in range(2)] == [1, 2]
    with pytest.raises(ShmError, match="start the broker again"):
        table.begin(2, WORKER, 0, 2)


def test_another_program_reads_the_table_by_path(tmp_path: Path) -> None:
    path = str(tmp_path / "slots")
    table = SlotTable.create(path, 3)
    incarnation = table.begin(1, GATEWAY, 0, 0)
    table.set_pid(1, 1234)
    seen = SlotTable.attach(path)
    assert (seen.count, seen.pid(1), seen.incarnation(1), seen.dead_incarnation(1)) == (
        3,
        1234,
        incarnation,
        0,
    )
    assert (role_name(seen.role(1)), state_name(seen.state(1))) == ("gateway", "starting")


def test_each_slot_of_a_layout_is_of_one_broker() -> None:
    layout = Layout(brokers=3, workers_each=2)
    assert (layout.controllers(), layout.gateways()) == ([1, 4, 7], [2, 5, 8])
    assert [list(layout.workers(broker)) for broker in range(3)] == [[10, 11], [12, 13], [14, 15]]
    assert list(layout.all_workers()) == list(range(10, layout.slot_count))
    own = [
        {layout.controller(b), layout.gateway(b), layout.housekeeper(b), *layout.workers(b)} for b in range(3)
    ]
    assert [layout.broker_of(slot) for slot in range(1, layout.slot_count)] == [
        next(b for b in range(3) if slot in own[b]) for slot in range(1, layout.slot_count)
    ]
    one = Layout(brokers=1, workers_each=4)
    assert (one.controller(0), one.gateway(0), one.housekeeper(0), one.workers(0)) == (1, 2, 3, range(4, 8))


def test_the_controller_of_the_latest_epoch_decides_or_nobody(tmp_path: Path) -> None:
    layout = Layout(brokers=3, workers_each=1)
    table = SlotTable.create(str(tmp_path / "slots"), layout.slot_count)
    assert table.active_controller(layout.controllers()) == (0, 0)
    for broker, slot in enumerate(layout.controllers()):
        table.begin(slot, CONTROLLER, broker, 0)
    assert table.active_controller(layout.controllers()) == (0, 0)
    table.set_active_epoch(1, 4)
    table.set_active_epoch(7, 6)  # the first has yet to notice
    assert table.active_controller(layout.controllers()) == (7, 6)
    table.mark_dead(7, table.incarnation(7))
    nobody = "(R) not the first: what the dead one decided is news to it"
    assert table.active_controller(layout.controllers()) == (0, 0), nobody
    table.begin(7, CONTROLLER, 2, 0)
    assert table.active_controller(layout.controllers()) == (0, 0), nobody
    table.set_active_epoch(4, 7)
    assert table.active_controller(layout.controllers()) == (4, 7)
    table.set_active_epoch(4, 0)
    assert table.active_controller(layout.controllers()) == (0, 0), nobody


def test_every_change_of_who_decides_is_news(tmp_path: Path) -> None:
    layout = Layout(brokers=2, workers_each=1)
    table = SlotTable.create(str(tmp_path / "slots"), layout.slot_count)
    for broker, slot in enumerate(layout.controllers()):
        table.begin(slot, CONTROLLER, broker, 0)
    first, second = layout.controllers()
    seen = {table.words[CONTROLLER_NEWS]}
    changes = ((first, 1), (first, 0), (second, 2), (second, 3), (first, 4), (second, 0), (first, 0))
    for slot, epoch in changes:
        table.set_active_epoch(slot, epoch)
        assert table.words[CONTROLLER_NEWS] not in seen
        seen.add(table.words[CONTROLLER_NEWS])


def test_a_broker_lives_anew_once_all_of_its_processes_were_dead(tmp_path: Path) -> None:
    """(R) Not before: one that is left may still append."""
    layout = Layout(brokers=2)
    slots = SlotTable.create(str(tmp_path / "slots"), layout.slot_count)
    slots.begin(0, SUPERVISOR, 0, 0)
    both = [(layout.controller(1), CONTROLLER), (layout.gateway(1), GATEWAY)]
    for slot, role in both:
        slots.begin(slot, role, 1, 0)
    assert (slots.life(0), slots.life(1)) == (0, 0)
    for slot, role in both:  # one after the other
        slots.mark_dead(slot, slots.incarnation(slot))
        slots.begin(slot, role, 1, 0)
    assert slots.life(1) == 0
    for slot, _ in both:
        slots.mark_dead(slot, slots.incarnation(slot))
    first = slots.begin(*both[0], 1, 0)
    slots.begin(*both[1], 1, 0)
    assert (slots.life(0), slots.life(1)) == (0, first)
    slots.region.close()
