"""A leader and its follower: truncation by epoch, links, laps, gaps, and what neither believes."""

import pytest

from tailrace.core.errors import KAFKA_STORAGE_ERROR, KafkaError
from tailrace.core.log.directory import DiskFullError
from tailrace.core.replication.follower import FollowerPartition
from tailrace.core.replication.frames import (
    DATA_BYTES,
    INLINE,
    REFERENCE,
    UNSAID_MAX,
    AskEpoch,
    CloseLink,
    FrameError,
    LinkOpened,
    decode_control,
    decode_data,
    decode_marks,
    encode_control,
    encode_marks,
    pack_data,
)
from tests.sim.replication_log import MemoryLog
from tests.unit.replication.pairs import FOLLOWER, LEADER, TP, Pair, copy_of, log_of


def test_a_new_follower_gets_all_and_keeps_up() -> None:
    pair = Pair(log_of(*[0] * 30), MemoryLog(), 1)
    pair.exchange()
    assert pair.is_equal()
    for count in (1, 1, 50, 1):
        pair.append(count)
        pair.exchange()
        assert pair.is_equal()


def test_a_follower_truncates_where_its_leader_knows_no_more() -> None:
    leading = log_of(0, 0, 1, 1, 3)
    following = copy_of(leading, 3)
    for _ in range(4):
        following.produce(leading.batches[0].data, 2)
    pair = Pair(leading, following, 4)
    pair.exchange()
    assert pair.is_equal()


def test_epochs_that_the_leader_never_had_take_several_rounds() -> None:
    """As in Kafka: each answer brings the follower to an older epoch."""
    leading = log_of(0, 0, 2, 4, 6)
    following = copy_of(leading, 2)
    for epoch in (1, 1, 3, 3, 5, 5):
        following.produce(leading.batches[0].data, epoch)
    pair = Pair(leading, following, 7)
    questions = 0
    for _ in range(10):
        questions += sum(isinstance(decode_control(frame), AskEpoch) for frame in pair.up)
        pair.take_up()
        pair.take_down()
    assert questions > 1
    pair.exchange()
    assert pair.is_equal()


def test_nothing_is_acknowledged_before_it_is_truncated() -> None:
    """(R) What the follower has beyond the leader's line would count."""
    leading = log_of(0, 0, 0)
    following = copy_of(leading, 2)
    following.produce(leading.batches[0].data, 1)
    pair = Pair(leading, following, 2)
    while following.truncations == 0:
        assert pair.follower.ack == -1
        assert pair.words.words == []
        assert pair.follower.shown_epoch == -1
        pair.take_up()
        pair.take_down()
    assert pair.follower.shown_epoch == 2


def test_a_new_epoch_of_the_same_leader_begins_without_acknowledgements() -> None:
    """(R) The old word may say what the follower has truncated since."""
    pair = Pair(log_of(0), MemoryLog(), 1)
    pair.exchange()
    assert pair.is_equal()
    old = pair.follower.link
    pair.lead(2)
    pair.append(3)
    pair.words.words[old] = pair.log.log_end_offset  # a store that comes late
    pair.leaders.on_acks(pair.words.moved(), 0)
    assert pair.partition.in_sync.high_watermark < pair.log.log_end_offset
    pair.followers.follow(TP, 2, LEADER, pair.now)
    assert pair.follower.ack == -1
    pair.exchange()
    assert pair.is_equal()


def test_a_follower_of_another_epoch_gets_no_link() -> None:
    """(R) Neither of one that is over nor of one that the leader has not heard of."""
    for epoch in (0, 2):
        pair = Pair(log_of(0), MemoryLog(), 1)
        pair.followers.follow(TP, epoch, LEADER, 0)
        pair.follower.follow(epoch, pair.followers.upstreams[LEADER].say, 0)
        pair.exchange()
        assert pair.follower.link == -1
        assert pair.words.owner == {}, "the word is free again"


def test_nobody_leads_twice_in_an_epoch() -> None:
    """(R) Who resigned may have a successor."""
    pair = Pair(log_of(0), MemoryLog(), 3)
    pair.leaders.resign(TP)
    assert not pair.leaders.may_lead(TP, 3)
    assert pair.leaders.may_lead(TP, 4)


def test_after_a_full_stop_a_follower_shows_what_its_leader_says() -> None:
    """(R) Its checkpoint may be above what the others still have."""
    leading = log_of(0, 0, 0)
    following = copy_of(leading, 3)
    following.high_watermark = 3
    pair = Pair(leading, following, 1)
    pair.take_up()
    pair.take_down()
    assert pair.follower.shown_epoch == 1
    assert pair.copy.high_watermark == 0


def test_no_data_comes_before_its_link_is_opened() -> None:
    """(R) Also when the ring was full for the answer and has room again."""
    pair = Pair(log_of(0), MemoryLog(), 1)
    pair.room = 0
    pair.take_up()
    pair.room = 1 << 20
    pair.append()
    assert not pair.down
    pair.take_up()
    assert isinstance(decode_control(pair.down[0]), LinkOpened)
    pair.exchange()
    assert pair.is_equal()


def test_a_full_ring_laps_the_follower_and_never_the_leader() -> None:
    """(R) It goes on from where it was."""
    pair = Pair(MemoryLog(), MemoryLog(), 1, room=400)
    pair.exchange()
    for _ in range(40):
        pair.append(3)  # the follower is stopped
    assert pair.leaders.downstreams[FOLLOWER].is_waiting
    pair.exchange()
    assert pair.is_equal()
    assert not pair.leaders.downstreams[FOLLOWER].is_waiting


@pytest.mark.parametrize("lost", range(4))
def test_a_frame_that_does_not_fit_begins_the_link_anew(lost: int) -> None:
    """(R) A follower takes what is at its end, and nothing else."""
    pair = Pair(log_of(0), MemoryLog(), 1)
    pair.exchange()
    for _ in range(4):
        pair.append()
    del pair.down[lost]
    pair.take_down()
    assert pair.copy.log_end_offset == 1 + lost
    pair.append()
    pair.exchange()
    assert pair.is_equal()


def test_a_damaged_batch_is_not_taken() -> None:
    pair = Pair(log_of(0), MemoryLog(), 1)
    pair.exchange()
    pair.append()
    frame = bytearray(pair.down[0])
    frame[DATA_BYTES + 7] ^= 1  # its base offset
    pair.down[0] = bytes(frame)
    pair.exchange()
    assert pair.is_equal()


def test_a_full_disk_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses, and breaks nothing: what was refused comes again."""
    pair = Pair(log_of(0), MemoryLog(), 1)
    pair.exchange()

    def refuse(*_: object, **__: object) -> None:
        raise DiskFullError(KAFKA_STORAGE_ERROR, "full")

    with monkeypatch.context() as full:
        full.setattr(pair.copy, "append_as_follower", refuse)
        pair.append(3)
        pair.exchange()
        assert pair.copy.log_end_offset == 1
        assert "full" in pair.follower.fault
    pair.exchange()
    assert pair.is_equal()


def test_a_disk_that_breaks_is_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(log_of(0), MemoryLog(), 1)
    pair.exchange()

    def fail(*_: object, **__: object) -> None:
        raise KafkaError(KAFKA_STORAGE_ERROR, "EIO")

    monkeypatch.setattr(pair.copy, "append_as_follower", fail)
    pair.append()
    pair.take_down()
    assert pair.refused == [pair.follower]


def test_all_whose_disks_refuse_what_one_frame_says_are_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(log_of(0), MemoryLog(), 1)
    pair.exchange()
    other = FollowerPartition((TP[0], 1), 1, MemoryLog())
    pair.followers.upstreams[LEADER].links[99] = other

    def fail(*_: object) -> None:
        raise KafkaError(KAFKA_STORAGE_ERROR, "EIO")

    monkeypatch.setattr(FollowerPartition, "on_mark", fail)
    frame = encode_marks([(pair.follower.link, 1, 0), (99, 1, 0)])
    refused = pair.followers.on_frame(LEADER, frame, 0)
    assert [partition for partition, _ in refused] == [pair.follower, other]


def test_one_that_links_up_between_a_high_watermark_and_its_showing_hears_of_it() -> None:
    """(R) Perhaps nothing else is ever written."""
    pair = Pair(log_of(0), MemoryLog(), 1)
    pair.exchange()
    pair.append()
    pair.take_down()
    pair.leaders.on_acks(pair.words.moved(), pair.now)
    assert pair.partition.in_sync.high_watermark == 2
    pair.followers.leave(TP)
    pair.followers.follow(TP, 1, LEADER, pair.now)
    while pair.up:
        pair.leaders.on_frame(FOLLOWER, pair.up.popleft())
        pair.take_down()
    assert pair.follower.log.high_watermark == 1
    pair.partition.on_shown()
    pair.leaders.downstreams[FOLLOWER].say_marks()
    pair.take_down()
    assert pair.is_equal()


def test_who_asks_and_never_reads_is_not_read_from() -> None:
    """Else its questions would fill the memory of the leader."""
    pair = Pair(log_of(0), MemoryLog(), 1, room=0)
    downstream = pair.leaders.downstreams[FOLLOWER]
    ask = encode_control(
        AskEpoch(topic_id=TP[0], partition=0, leader_epoch=1, replica_id=1, question=1, epoch=0)
    )
    for _ in range(UNSAID_MAX):
        assert not downstream.is_congested
        pair.leaders.on_frame(FOLLOWER, ask)
    assert downstream.is_congested


def test_a_leader_that_stands_still_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long: what waits for room in its ring does not grow."""
    leading = log_of(0)
    pair = Pair(leading, copy_of(leading, 1), 1)
    pair.up.clear()

    def full(_: bytes) -> bool:
        return False

    with monkeypatch.context() as still:
        still.setattr(pair.followers.upstreams[LEADER], "_push", full)
        for _ in range(100):
            pair.now += 2000
            pair.followers.tick(pair.now)
    pair.followers.upstreams[LEADER].say_waiting()
    assert len(pair.up) == 1
    pair.exchange()
    assert pair.is_equal()


def test_a_compacted_log_is_copied_with_its_gaps() -> None:
    leading = log_of(*[0] * 40)
    for number in (35, 22, 21, 20, 13, 6, 3):  # one of them the last of its segment
        gone = leading.batches.pop(number)
        segment = next(s for s in leading.segments if s.base_offset == gone.segment)
        segment.size -= len(gone.data)
    places: dict[int, int] = {}
    for stored in leading.batches:
        stored.position = places.get(stored.segment, 0)
        places[stored.segment] = stored.position + len(stored.data)
    pair = Pair(leading, MemoryLog(), 1)
    pair.lead(2, has_gaps=True)
    pair.followers.follow(TP, 2, LEADER, 0)
    pair.exchange()
    assert pair.is_equal()
    pair.append(3)
    pair.exchange()
    assert pair.is_equal()


def test_what_retention_has_taken_is_not_waited_for() -> None:
    """As in Kafka: the follower starts where its leader does."""
    leading = log_of(*[0] * 40)
    leading.high_watermark = 40
    leading.delete_records_before(30, 0)
    pair = Pair(leading, copy_of(log_of(*[0] * 3), 3), 1)
    pair.exchange()
    assert pair.copy.log_start_offset == 30
    assert pair.log.held(30) == pair.copy.held(30)
    assert pair.copy.high_watermark == 40


def test_records_that_are_deleted_at_the_leader_go_at_the_follower() -> None:
    pair = Pair(log_of(*[0] * 20), MemoryLog(), 1)
    pair.exchange()
    pair.log.delete_records_before(15, 0)
    pair.append()
    pair.exchange()
    assert pair.copy.log_start_offset == 15


def test_a_segment_that_is_gone_breaks_the_link_and_not_the_follower() -> None:
    pair = Pair(log_of(*[0] * 40), MemoryLog(), 1, room=130)
    pair.now = 1
    pair.take_up()
    pair.take_down()
    pair.take_up()  # the first segment is sent, the ring is full
    pair.log.high_watermark = 40
    pair.log.delete_records_before(30, 0)
    pair.exchange()
    assert pair.copy.log_start_offset == 30
    assert pair.log.held(30) == pair.copy.held(30)


def test_the_death_of_a_process_frees_its_words() -> None:
    pair = Pair(log_of(0), MemoryLog(), 1)
    pair.exchange()
    assert pair.partition.in_sync.followers[1].acked == 1
    pair.leaders.on_peer_died(FOLLOWER)
    assert pair.partition.in_sync.followers[1].acked == -1
    assert pair.words.owner == {}
    pair.followers.on_peer_died(LEADER)
    assert pair.follower.ack == -1
    assert pair.followers.next_due_ms() is None


def test_a_word_is_given_back_when_the_follower_says_so() -> None:
    """(R) Not when the leader is done with it."""
    pair = Pair(log_of(0), MemoryLog(), 1)
    pair.exchange()
    pair.leaders.resign(TP)
    assert len(pair.words.owner) == 1
    pair.followers.remove(TP)
    assert isinstance(decode_control(pair.up[0]), CloseLink)
    pair.take_up()
    assert pair.words.owner == {}


def test_an_answer_to_an_older_question_opens_nothing() -> None:
    """(R) Its word would be stored in by nobody, and the frames that come would be another link's."""
    pair = Pair(log_of(0), MemoryLog(), 1)
    pair.take_up()
    pair.take_down()
    answer = LinkOpened(topic_id=TP[0], partition=0, leader_epoch=1, question=99, link=7)
    pair.followers.on_frame(LEADER, encode_control(answer), 0)
    assert decode_control(pair.up[-1]) == CloseLink(link=7)
    assert pair.follower.link != 7


GOOD = pack_data(REFERENCE, 0, 1, 10, 12, 0, 700, 150, 5, 0)
BAD = {
    "short": GOOD[:-1],
    "longer": GOOD + b"\0",
    "inline without bytes": pack_data(INLINE, 0, 1, 10, 12, 0, 700, 150, 5, 0),
    "ends before it begins": pack_data(REFERENCE, 0, 1, 10, 10, 0, 700, 150, 5, 0),
    "before its segment": pack_data(REFERENCE, 0, 1, 10, 12, 11, 700, 150, 5, 0),
    "negative position": pack_data(REFERENCE, 0, 1, 10, 12, 0, -1, 150, 5, 0),
    "no batch": pack_data(REFERENCE, 0, 1, 10, 12, 0, 700, 60, 5, 0),
    "negative high watermark": pack_data(REFERENCE, 0, 1, 10, 12, 0, 700, 150, -2, 0),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_data_frame_that_nobody_sends_is_refused(fault: str) -> None:
    assert decode_data(GOOD)[3] == 10
    with pytest.raises(FrameError):
        decode_data(BAD[fault])


NOT_FRAMES = [
    b"",
    b"\0",
    b"\4",
    b"\4\x93\x01\x02",
    b"\4" + b"\xff" * 20,
    b"\3",
    b"\3" + bytes(10),
    bytes(100),
]


@pytest.mark.parametrize("frame", NOT_FRAMES)
def test_frames_that_nobody_sends_do_not_kill(frame: bytes) -> None:
    """Neither side believes what comes out of a ring."""
    pair = Pair(log_of(0), MemoryLog(), 1)
    with pytest.raises(FrameError):
        pair.followers.on_frame(LEADER, frame, 0)
    with pytest.raises(FrameError):
        pair.leaders.on_frame(FOLLOWER, frame)


def test_many_high_watermarks_fit_one_frame() -> None:
    marks = [(number, 5 * number, number) for number in range(1000)]
    assert list(decode_marks(encode_marks(marks))) == marks
