"""Where the high watermark of a new leader begins, and who waits for it."""

import pytest

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.replication.high_watermark import starting_high_watermark
from tailrace.core.replication.pending import PendingAcks


def start(rows: list[tuple[int, int]], *, lineage: int = -1, own: int = 0, end: int = 100) -> int:
    """Of who leads in epoch 9."""
    return starting_high_watermark(
        rows, lineage=lineage, leader_epoch=9, own_high_watermark=own, log_end_offset=end
    )


def test_no_high_watermark_that_anybody_has_shown_is_forgotten() -> None:
    """(R) Neither the own one nor that of the last leader alone will do."""
    assert start([(8, 50), (7, 80), (6, 60)], own=40) == 80
    assert start([(8, 50)], own=70) == 70


def test_rows_of_before_an_unclean_election_do_not_count() -> None:
    """(R) They tell of batches that are in no log of this line."""
    assert start([(6, 90), (7, 30), (8, 20)], lineage=7) == 30


def test_who_died_before_it_led_after_its_unclean_election_keeps_what_readers_saw_of_its_log() -> None:
    """(R) It leads in a later epoch for the first time, and nobody else has been of this line."""
    assert start([(6, 90), (6, 30), (-1, 95)], lineage=8, own=30) == 90
    assert start([(6, 120), (6, 30)], lineage=8) == 100, "what it has not is lost, and that was the choice"
    assert start([(-1, 90)], lineage=8, own=30) == 30, "after a full stop it is the checkpoint"


def test_rows_of_those_that_have_neither_led_nor_truncated_do_not_count() -> None:
    assert start([(-1, 90), (8, 20)]) == 20


def test_who_lacks_what_is_committed_does_not_lead() -> None:
    with pytest.raises(KafkaError) as caught:
        start([(8, 101)])
    assert caught.value.code == errors.KAFKA_STORAGE_ERROR


def test_after_an_unclean_election_it_is_at_most_the_own_end() -> None:
    assert start([(8, 150), (7, 20)], lineage=9) == 100
    assert start([(8, 50)], lineage=9) == 50


def test_who_is_first_to_begin_after_an_unclean_election_counts_as_the_one_elected() -> None:
    """(R) That one died before it began. Readers have seen what the others show, and the own log has it."""
    assert start([(3, 50), (2, 40)], lineage=7, own=38) == 50
    assert start([(3, 150), (-1, 40)], lineage=7, own=38) == 100
    assert start([(-1, 50)], lineage=7, own=38) == 38


def test_after_a_full_stop_it_is_the_checkpoint() -> None:
    assert start([], own=30) == 30
    assert start([], own=300) == 100


def test_acknowledgements_are_due_in_order_and_a_duplicate_not_before_its_original() -> None:
    """(R) The original may not be in the log of every in-sync replica yet."""
    pending = PendingAcks[str]()
    pending.add(10, "a")
    pending.add(20, "b")
    pending.add(10, "duplicate of a")
    assert pending.take(9) == []
    assert pending.take(10) == ["a"]
    assert pending.take(19) == []
    assert pending.take(20) == ["b", "duplicate of a"]
    pending.add(30, "c")
    assert len(pending) == 1
    assert pending.fail() == ["c"]
    assert pending.take(100) == []
