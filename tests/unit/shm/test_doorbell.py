"""Parking, ringing, and when a wake-up counts as missed."""

import os
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from tailrace.shm import doorbell
from tailrace.shm.doorbell import NET_S, Bells, Doorbell, make_eventfd
from tailrace.shm.slots import WORKER, SlotTable


class Owner:
    """A slot's owner whose waits are scripted: what each poll answers, and what happens during it."""

    def __init__(self, directory: Path, *, net_s: float = NET_S) -> None:
        self.slots = SlotTable.create(str(directory / "slots"), 2)
        self.slots.begin(0, WORKER, 0, 0)
        self.eventfd = make_eventfd()
        self.bell = Doorbell(self.slots, 0, self.eventfd, net_s=net_s)
        self.waits: list[float] = []
        self.parked_in_poll: list[int] = []
        self.answers: list[tuple[bool, Callable[[], None]]] = []
        self.work = False

    def poll(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.parked_in_poll.append(self.slots.parked(0))
        ready, happens = self.answers.pop(0) if self.answers else (False, lambda: None)
        happens()
        return ready

    def gets_work(self) -> None:
        self.work = True

    def park(self, timeout_s: float | None = None) -> bool:
        return self.bell.park(self.poll, lambda: self.work, timeout_s)

    @property
    def missed(self) -> int:
        return self.slots.missed_wakeups(0)


def test_work_found_after_the_fence_is_not_slept_on(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    owner.work = True
    owner.park()
    assert (owner.waits, owner.parked_in_poll) == ([0.0], [0])


def test_both_sides_fence_between_their_store_and_their_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Owner(tmp_path)
    bells = Bells(owner.slots, [owner.eventfd])
    steps: list[str] = []
    monkeypatch.setattr(doorbell, "fence", lambda: steps.append(f"fence, parked {owner.slots.parked(0)}"))

    def look() -> bool:
        steps.append("look")
        return False

    owner.bell.park(owner.poll, look, 0.1)
    assert steps == ["fence, parked 1", "look"]
    steps.clear()
    bells.ring(0)
    bells.ring_many([0, 0])
    assert steps == ["fence, parked 0"] * 2


def test_parked_wait_ends_at_the_net_and_idle_is_no_missed_wakeup(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    assert owner.park() is False
    assert owner.park(0.125) is False
    assert (owner.waits, owner.parked_in_poll, owner.missed) == ([NET_S, 0.125], [1, 1], 0)
    assert owner.slots.parked(0) == 0


def test_work_without_a_bell_for_two_waits_is_a_missed_wakeup(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    owner.answers = [(False, owner.gets_work)]
    owner.park()
    assert (owner.waits, owner.parked_in_poll, owner.missed) == ([NET_S, NET_S], [1, 1], 1)


def test_peer_between_publish_and_ring_is_no_missed_wakeup(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    owner.answers = [(False, owner.gets_work), (True, lambda: None)]
    assert owner.park() is True
    assert owner.missed == 0


def test_timer_shorter_than_the_net_decides_nothing(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    owner.answers = [(False, owner.gets_work)]
    owner.park(NET_S / 2)
    assert (owner.waits, owner.missed) == ([NET_S / 2], 0)
    owner.work = False
    owner.answers = [(False, owner.gets_work)]
    owner.park(NET_S * 1.5)
    assert (owner.waits[1:], owner.missed) == ([NET_S, NET_S / 2], 0)


def test_only_a_parked_process_is_rung(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    bells = Bells(owner.slots, [owner.eventfd, make_eventfd()])
    bells.ring(0)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(owner.eventfd)
    owner.answers = [(True, bells.ring_all)]
    owner.park()
    with pytest.raises(BlockingIOError):  # park forgot the ring
        os.eventfd_read(owner.eventfd)


def test_edge_triggered_bell_is_never_read_and_still_wakes_each_time(tmp_path: Path) -> None:
    slots = SlotTable.create(str(tmp_path / "slots"), 1)
    slots.begin(0, WORKER, 0, 0)
    eventfd = make_eventfd()
    bell = Doorbell(slots, 0, eventfd, edge_triggered=True, net_s=30.0)
    epoll = select.epoll()
    epoll.register(eventfd, select.EPOLLIN | select.EPOLLET)
    for _ in range(3):
        bell.wake()
        assert bell.park(epoll.poll, lambda: False, None) == [(eventfd, select.EPOLLIN)]
    assert os.eventfd_read(eventfd) == 3


@pytest.mark.parametrize("patience", [doorbell.USUAL, doorbell.LONG])
def test_only_after_a_short_wait_does_a_sleeper_linger_and_once_in_vain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: doorbell.Patience
) -> None:
    owner, now, looks = Owner(tmp_path), [0], [0]
    monkeypatch.setattr("time.perf_counter_ns", lambda: now[0])

    def look() -> bool:
        looks[0] += 1
        now[0] += patience.linger_ns // 4
        return False

    def waits(nanoseconds: int) -> Callable[[], None]:
        def happens() -> None:
            now[0] += nanoseconds

        return happens

    owner.answers = [(True, waits(patience.short_ns)), (True, waits(1000))]
    owner.park()
    owner.bell.linger(look, patience=patience)
    assert looks == [0]
    owner.park()
    owner.bell.linger(look, patience=patience)
    assert 0 < looks[0] <= 5
    looks[0] = 0
    owner.bell.linger(look, patience=patience)
    assert looks == [0]


def test_who_lingers_hears_of_descriptors_and_of_work_and_looks_at_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.perf_counter_ns", lambda: 0)
    owner = Owner(tmp_path)
    owner.answers = [(True, lambda: None)]
    owner.park()
    polled: list[float] = []

    def poll(timeout_s: float) -> list[int]:
        polled.append(timeout_s)
        return [7] if len(polled) == 3 else []

    assert owner.bell.linger(lambda: False, poll) == [7]
    assert polled == [0, 0, 0]
    assert owner.bell.linger(lambda: True, poll) == []  # work in a ring: park is in vain
    assert polled == [0, 0, 0, 0]
