"""Words in which followers acknowledge."""

import os
from pathlib import Path
from random import Random

import pytest

from tailrace.shm.link_slots import AckWords, LinkSlots, slots_path
from tailrace.shm.region import ShmError

ONE, TWO = (7, 1), (9, 4)


def both(path: Path, count: int = 64) -> tuple[LinkSlots, AckWords]:
    """The two sides of a leader in slot 4, incarnation 3."""
    slots = LinkSlots.create(str(path), 4, 3, count)
    return slots, AckWords(str(path), 4, 3)


def test_a_word_says_nothing_until_its_follower_does(tmp_path: Path) -> None:
    slots, words = both(tmp_path)
    number = slots.allocate(ONE)
    assert number is not None
    assert not slots.has_moved()
    assert slots.moved() == []
    words.store(number, 0)
    assert slots.has_moved()
    assert slots.moved() == [(number, 0)]
    assert slots.moved() == []
    words.store(number, 17)
    words.store(number, 18)
    assert slots.moved() == [(number, 18)]


def test_a_word_is_given_out_again_without_what_it_said(tmp_path: Path) -> None:
    """(R) What was acknowledged for one partition would count for another."""
    slots, words = both(tmp_path)
    number = slots.allocate(ONE)
    assert number is not None
    words.store(number, 99)
    slots.release(number)
    assert slots.allocate(ONE) == number
    assert slots.moved() == []
    words.store(number, 99)
    assert slots.moved() == [(number, 99)]


def test_a_word_is_taken_until_its_follower_says_so_or_is_dead(tmp_path: Path) -> None:
    """(R) Two followers never share a word, nor a cache line."""
    slots, words = both(tmp_path)
    mine = [slots.allocate(ONE) for _ in range(10)]
    others = [slots.allocate(TWO) for _ in range(10)]
    numbers = [number for number in mine + others if number is not None]
    assert len(set(numbers)) == 20
    assert not {n // 8 for n in mine if n is not None} & {n // 8 for n in others if n is not None}
    for number in numbers:
        words.store(number, number)
    slots.release_peer(ONE)
    again = {slots.allocate(TWO) for _ in range(12)}
    assert not again & set(others)
    assert {number for number, _ in slots.moved()} == set(others), "nothing of the dead one is news"


def test_words_run_out_and_a_death_brings_them_back(tmp_path: Path) -> None:
    slots, _ = both(tmp_path, 16)
    taken = [slots.allocate(peer) for peer in (ONE, TWO) for _ in range(8)]
    assert None not in taken
    assert slots.allocate(ONE) is None
    slots.release_peer(TWO)
    assert slots.allocate(ONE) is not None
    slots.release_peer((1, 1))  # that never had one


def test_every_word_that_moves_is_found(tmp_path: Path) -> None:
    slots, words = both(tmp_path, 8192)
    numbers = [slots.allocate(ONE) for _ in range(8192)]
    assert None not in numbers
    assert slots.allocate(ONE) is None
    random, expected = Random(1), dict[int, int]()
    for turn in range(30):
        for number in random.sample(range(8192), random.choice((1, 2, 50, 1000))):
            words.store(number, turn)
            expected[number] = turn
        assert dict(slots.moved()) == expected
        expected.clear()


def test_the_file_belongs_to_one_incarnation(tmp_path: Path) -> None:
    slots, words = both(tmp_path)
    with pytest.raises(FileNotFoundError):
        AckWords(str(tmp_path), 4, 4)
    with pytest.raises(ShmError):
        words.store(64, 1)
    words.close()
    slots.close()
    assert not os.path.exists(slots_path(str(tmp_path), 4, 3))


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    slots, _ = both(tmp_path)
    slots.region.words[0] = 1000
    with pytest.raises(ShmError):
        AckWords(str(tmp_path), 4, 3)


def test_a_word_given_back_twice_is_a_broken_leader(tmp_path: Path) -> None:
    slots, _ = both(tmp_path)
    number = slots.allocate(ONE)
    assert number is not None
    slots.release(number)
    with pytest.raises(AssertionError):
        slots.release(number)
    with pytest.raises(AssertionError):
        slots.release(63)
