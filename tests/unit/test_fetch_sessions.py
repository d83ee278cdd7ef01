"""Fetch sessions keep to the rules of KIP-227, as Kafka's FetchManager does."""

import pytest

from tailrace.core import fetch_sessions
from tailrace.core.errors import (
    FETCH_SESSION_ID_NOT_FOUND,
    FETCH_SESSION_TOPIC_ID_ERROR,
    INVALID_FETCH_SESSION_EPOCH,
    NONE,
    OFFSET_OUT_OF_RANGE,
)
from tailrace.core.fetch_sessions import EPOCH_MAX, EVICTION_MS, FetchContext, FetchSessions, Topic
from tailrace.core.protocol.messages.fetch import (
    FetchRequest,
    FetchRequestForgottenTopic,
    FetchRequestPartition,
    FetchRequestTopic,
)

ID = bytes(range(16))
NOW = 1_000_000


def request(
    session_id: int, epoch: int, *parts: tuple[Topic, int, int], forgotten: tuple[tuple[Topic, int], ...] = ()
) -> FetchRequest:
    """A fetch of (topic, partition, offset)s."""
    return FetchRequest(
        session_id=session_id,
        session_epoch=epoch,
        topics=[
            FetchRequestTopic(
                topic=topic if isinstance(topic, str) else "",
                topic_id=topic if isinstance(topic, bytes) else bytes(16),
                partitions=[FetchRequestPartition(partition=index, fetch_offset=at, partition_max_bytes=99)],
            )
            for topic, index, at in parts
        ],
        forgotten_topics_data=[
            FetchRequestForgottenTopic(
                topic=topic if isinstance(topic, str) else "",
                topic_id=topic if isinstance(topic, bytes) else bytes(16),
                partitions=[index],
            )
            for topic, index in forgotten
        ],
    )


def opened(sessions: FetchSessions, *parts: tuple[Topic, int, int], now_ms: int = NOW, size: int = 1) -> int:
    """The id of a new session, 0 if there was no room."""
    wanted = parts or tuple(("t", index, 0) for index in range(size))
    return sessions.context(request(0, 0, *wanted), False, now_ms).session_id


def offsets(context: FetchContext) -> list[tuple[Topic, int, int]]:
    """What a context fetches, in its order."""
    return [(part.topic, part.partition, part.fetch_offset) for part in context.partitions.values()]


def told(
    context: FetchContext, high_watermark: int, *, error: int = NONE, start: int = 0, size: int = 0
) -> int:
    """Answers as the fetch handler does; how many partitions the answer holds."""
    count = 0
    for part in list(context.partitions.values()):
        if context.is_told(part, error, high_watermark, start, size):
            context.told(part, error, high_watermark, start, size)
            count += 1
    return count


def test_a_final_epoch_fetches_without_a_session() -> None:
    sessions = FetchSessions(10)
    context = sessions.context(request(0, -1, ("t", 0, 5)), False, NOW)
    assert (context.session_id, context.is_incremental, context.error_code) == (0, False, NONE)
    assert (offsets(context), len(sessions)) == ([("t", 0, 5)], 0)


def test_an_initial_epoch_opens_a_session_that_remembers() -> None:
    sessions = FetchSessions(10)
    session = opened(sessions, ("t", 0, 5), ("u", 1, 6))
    assert session > 0
    context = sessions.context(request(session, 1), False, NOW)
    assert (context.session_id, context.is_incremental) == (session, True)
    assert offsets(context) == [("t", 0, 5), ("u", 1, 6)]


def test_every_request_moves_the_epoch() -> None:
    sessions = FetchSessions(10)
    session = opened(sessions)
    for epoch in (1, 2, 3):
        assert sessions.context(request(session, epoch), False, NOW).error_code == NONE
    for epoch in (1, 3, 5, -2):
        context = sessions.context(request(session, epoch), False, NOW)
        assert (context.error_code, context.session_id) == (INVALID_FETCH_SESSION_EPOCH, 0)
    assert sessions.context(request(session, 4), False, NOW).error_code == NONE  # a refusal moves nothing


def test_epochs_wrap_to_one() -> None:
    sessions = FetchSessions(10)
    context = sessions.context(request(0, 0, ("t", 0, 0)), False, NOW)
    assert context.session is not None
    context.session.epoch = EPOCH_MAX
    assert sessions.context(request(context.session_id, EPOCH_MAX), False, NOW).error_code == NONE
    assert sessions.context(request(context.session_id, 1), False, NOW).error_code == NONE


def test_an_unknown_session_is_not_found() -> None:
    sessions = FetchSessions(10)
    session = opened(sessions)
    for session_id in (0, -1, session + 1):
        assert sessions.context(request(session_id, 1), False, NOW).error_code == FETCH_SESSION_ID_NOT_FOUND


@pytest.mark.parametrize("epoch", [0, -1])
def test_a_full_request_closes_the_session_it_names(epoch: int) -> None:
    sessions = FetchSessions(10)
    session = opened(sessions)
    context = sessions.context(request(session, epoch, ("t", 0, 0)), False, NOW)
    assert context.session_id != session
    assert len(sessions) == (1 if epoch == 0 else 0)
    assert sessions.context(request(session, 1), False, NOW).error_code == FETCH_SESSION_ID_NOT_FOUND


def test_partitions_are_added_changed_and_forgotten() -> None:
    sessions = FetchSessions(10)
    session = opened(sessions, ("t", 0, 1), ("t", 1, 2))
    changed = request(session, 1, ("t", 1, 20), ("u", 0, 3), forgotten=(("t", 0), ("x", 9)))
    assert offsets(sessions.context(changed, False, NOW)) == [("t", 1, 20), ("u", 0, 3)]
    assert offsets(sessions.context(request(session, 2), False, NOW)) == [("t", 1, 20), ("u", 0, 3)]


def test_a_session_without_partitions_is_closed() -> None:
    sessions = FetchSessions(10)
    session = opened(sessions, ("t", 0, 1))
    context = sessions.context(request(session, 1, forgotten=(("t", 0),)), False, NOW)
    assert (context.error_code, context.session_id, context.is_incremental) == (NONE, 0, False)
    assert (offsets(context), len(sessions)) == ([], 0)
    assert sessions.context(request(session, 2), False, NOW).error_code == FETCH_SESSION_ID_NOT_FOUND


@pytest.mark.parametrize("ids_first", [False, True])
def test_a_session_stays_with_names_or_with_ids(ids_first: bool) -> None:
    sessions = FetchSessions(10)
    topic: Topic = ID if ids_first else "t"
    session = sessions.context(request(0, 0, (topic, 0, 7)), ids_first, NOW).session_id
    context = sessions.context(request(session, 1), not ids_first, NOW)
    assert context.error_code == FETCH_SESSION_TOPIC_ID_ERROR == 106
    assert offsets(sessions.context(request(session, 1), ids_first, NOW)) == [(topic, 0, 7)]


def test_ids_are_forgotten_by_id() -> None:
    sessions = FetchSessions(10)
    session = sessions.context(request(0, 0, (ID, 0, 7), (ID, 1, 8)), True, NOW).session_id
    assert offsets(sessions.context(request(session, 1, forgotten=((ID, 0),)), True, NOW)) == [(ID, 1, 8)]


def test_an_empty_name_stays_a_name() -> None:
    context = FetchSessions(10).context(request(0, -1, ("", 0, 7)), False, NOW)
    assert offsets(context) == [("", 0, 7)]


def test_an_incremental_answer_holds_only_what_is_new() -> None:
    sessions = FetchSessions(10)
    first = sessions.context(request(0, 0, ("t", 0, 0), ("t", 1, 0)), False, NOW)
    session = first.session_id
    assert told(first, 5) == 2  # a full answer holds everything
    steps: list[tuple[dict[str, int], int]] = [
        ({"high_watermark": 5}, 0),
        ({"high_watermark": 6}, 2),
        ({"high_watermark": 6}, 0),
        ({"high_watermark": 6, "start": 3}, 2),
        ({"high_watermark": 6, "start": 3, "size": 10}, 2),
        ({"high_watermark": 6, "start": 3}, 0),
        ({"high_watermark": 6, "start": 3, "error": OFFSET_OUT_OF_RANGE}, 2),
        ({"high_watermark": 6, "start": 3, "error": OFFSET_OUT_OF_RANGE}, 2),
        ({"high_watermark": 6, "start": 3}, 2),  # the error is gone, and the client has to hear of it
        ({"high_watermark": 6, "start": 3}, 0),
    ]
    for epoch, (answer, count) in enumerate(steps, 1):
        context = sessions.context(request(session, epoch), False, NOW)
        assert told(context, **answer) == count, (epoch, answer)


def test_partitions_with_records_go_to_the_end() -> None:
    sessions = FetchSessions(10)
    first = sessions.context(request(0, 0, *(("t", index, 0) for index in range(3))), False, NOW)
    part = first.partitions["t", 0]
    first.told(part, NONE, 5, 0, 100)
    again = sessions.context(request(first.session_id, 1), False, NOW)
    assert [index for _, index in again.partitions] == [1, 2, 0]


def test_without_room_a_full_request_is_answered_without_a_session() -> None:
    sessions = FetchSessions(2)
    assert 0 not in (opened(sessions), opened(sessions))
    context = sessions.context(request(0, 0, ("t", 0, 4)), False, NOW)
    assert (context.session_id, context.error_code, offsets(context)) == (0, NONE, [("t", 0, 4)])
    assert opened(FetchSessions(0)) == 0


def test_a_stale_session_makes_room() -> None:
    sessions = FetchSessions(2)
    stale, used = opened(sessions), opened(sessions)
    sessions.context(request(used, 1), False, NOW + 1)
    assert opened(sessions, now_ms=NOW + EVICTION_MS) == 0
    assert opened(sessions, now_ms=NOW + EVICTION_MS + 1) > 0
    assert sessions.context(request(stale, 1), False, NOW).error_code == FETCH_SESSION_ID_NOT_FOUND
    assert sessions.context(request(used, 2), False, NOW).error_code == NONE


def test_a_larger_session_takes_the_place_of_a_smaller_one_that_is_not_new() -> None:
    sessions = FetchSessions(2)
    small, large = opened(sessions, size=2), opened(sessions, size=5)
    assert opened(sessions, size=9) == 0  # both are new
    later = NOW + EVICTION_MS + 1
    for session in (small, large):
        sessions.context(request(session, 1), False, later)
    assert opened(sessions, size=2, now_ms=later) == 0
    assert opened(sessions, size=3, now_ms=later) > 0
    assert sessions.context(request(small, 2), False, later).error_code == FETCH_SESSION_ID_NOT_FOUND
    assert sessions.context(request(large, 2), False, later).error_code == NONE


def test_ids_are_not_given_twice() -> None:
    sessions = FetchSessions(50)
    given = [opened(sessions) for _ in range(50)]
    assert len(set(given)) == 50
    assert all(0 < session_id <= 2**31 - 1 for session_id in given)


def test_a_session_that_grows_too_large_ends_and_its_client_goes_on_with_full_fetches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetch_sessions, "SESSION_PARTITIONS_MAX", 3)
    sessions = FetchSessions(slots=10)
    session_id = opened(sessions, size=3)
    assert session_id
    grown = sessions.context(request(session_id, 1, ("t", 3, 0)), False, NOW)
    assert grown.error_code == FETCH_SESSION_ID_NOT_FOUND
    assert len(sessions) == 0
    full = sessions.context(request(0, 0, *(("t", index, 0) for index in range(4))), False, NOW)
    assert (full.session_id, full.error_code, len(full.partitions)) == (0, NONE, 4)


def test_a_session_may_begin_empty_as_in_kafka() -> None:
    sessions = FetchSessions(slots=10)
    session_id = sessions.context(request(0, 0), False, NOW).session_id
    assert session_id
    context = sessions.context(request(session_id, 1, ("t", 0, 5)), False, NOW)
    assert offsets(context) == [("t", 0, 5)]
