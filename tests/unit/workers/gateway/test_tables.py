"""Tables that clients fill are bounded, and what is beyond gets an answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.core import fetch_sessions
from tailrace.core.errors import NONE, UNKNOWN_TOPIC_OR_PARTITION
from tailrace.core.fetch_sessions import FetchSessions
from tailrace.core.protocol.messages.fetch import FetchRequest, FetchRequestPartition, FetchRequestTopic
from tailrace.workers.gateway import auto_creation, long_polls, partitions
from tailrace.workers.gateway.auto_creation import AutoCreation
from tests.unit.workers.gateway.fakes import FakeGateway
from tests.unit.workers.gateway.in_process import InProcess, correlation_ids, fetch_frame, in_process


@pytest.fixture
def run(tmp_path: Path) -> Iterator[InProcess]:
    with in_process(tmp_path / "data") as made:
        made.lead()
        yield made


def test_fetches_beyond_the_bound_do_not_wait(run: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_polls, "PARTITIONS_MAX", 2)
    waiting = [run.dial() for _ in range(2)]
    for client, connection in waiting:
        client.sendall(fetch_frame(0, wait_ms=3_600_000))
        while not run.gateway.long_polls.has(connection):
            run.turn()
    third, _ = run.dial()
    third.sendall(fetch_frame(0, wait_ms=3_600_000, correlation_id=5))
    assert correlation_ids(run.answers(third, 1)) == [5]
    waiting[0][1].close()
    fourth, connection = run.dial()
    fourth.sendall(fetch_frame(0, wait_ms=3_600_000))
    while not run.gateway.long_polls.has(connection):
        run.turn()


def test_names_beyond_the_bound_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_creation, "WAITING_MAX", 3)
    gateway = FakeGateway()
    gateway.peer.is_prompt = False
    making = AutoCreation(gateway)  # type: ignore[arg-type]
    answers: list[dict[str, int]] = []
    making.make(["a", "b"], answers.append)
    making.make(["a", "c"], answers.append)
    assert answers == [{"a": UNKNOWN_TOPIC_OR_PARTITION, "c": UNKNOWN_TOPIC_OR_PARTITION}]
    gateway.peer.answer(gateway.peer.sent[0])
    gateway.run()
    gateway.advance(1)
    assert answers[1] == {"a": NONE, "b": NONE}
    making.make(["d", "e", "f"], answers.append)
    assert len(answers) == 2, "there is room again"


def test_files_of_partitions_beyond_the_bound_are_closed_for_others(
    run: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = run.gateway.partitions
    monkeypatch.setattr(known, "_readers_max", 2)
    first = known.get("topic", bytes(15) + b"\x01", 0)
    others = [partitions.Partition("topic", bytes(15) + b"\x01", number) for number in (1, 2)]
    for other in others:
        other.place = first.place
    for partition in (first, *others):
        known.reader_of(partition)
    assert [partition.reader is None for partition in (first, *others)] == [True, False, False]
    known.reader_of(first)
    assert others[0].reader is None


def asked(topic: str, count: int, session_id: int = 0, epoch: int = 0) -> FetchRequest:
    parts = [FetchRequestPartition(number, fetch_offset=0, partition_max_bytes=1) for number in range(count)]
    topics = [FetchRequestTopic(topic=topic, partitions=parts)]
    return FetchRequest(session_id=session_id, session_epoch=epoch, topics=topics, forgotten_topics_data=[])


def test_fetch_sessions_together_hold_a_bounded_number_of_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_sessions, "PARTITIONS_MAX", 10)
    sessions = FetchSessions(100)
    first = sessions.context(asked("a", 6), uses_topic_ids=False, now_ms=0)
    assert first.session_id
    assert not sessions.context(asked("b", 6), uses_topic_ids=False, now_ms=0).session_id
    second = sessions.context(asked("b", 4), uses_topic_ids=False, now_ms=0)
    assert second.session_id
    more = asked("c", 1, second.session_id, 1)
    assert sessions.context(more, uses_topic_ids=False, now_ms=0).error_code
    assert len(sessions) == 1
