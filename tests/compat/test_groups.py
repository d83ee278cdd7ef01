"""subscribe(), as everyone writes it: every client library, every way to share a topic's partitions."""

import subprocess
import time
from collections import Counter
from collections.abc import Callable
from itertools import count, islice

import pytest

from perf import wire
from tests.compat.clients.kcat import Kcat
from tests.compat.members.aio import Aiokafka
from tests.compat.members.confluent import Confluent
from tests.compat.members.crew import crew
from tests.compat.members.jvm import Java
from tests.compat.members.kafka_python import KafkaPython
from tests.compat.members.member import PATIENCE_S, Library, Member, Message, Place, Wish
from tests.compat.members.records import PARTITIONS, committed_metadata, produce
from tests.support.peers import require
from tests.support.waiting import wait_until

NUMBERS = count()
LIBRARIES: dict[str, Callable[[], Library]] = {
    "confluent-kafka": Confluent,
    "kafka-python": KafkaPython,
    "aiokafka": Aiokafka,
    "java": Java,
}
CLASSIC = [(name, "range") for name in LIBRARIES]
BOTH = [*CLASSIC, ("confluent-kafka", "consumer"), ("java", "consumer")]
ALL = [(name, strategy) for name, make in LIBRARIES.items() for strategy in make().strategies]


@pytest.fixture
def library(way: tuple[str, str], request: pytest.FixtureRequest) -> Library:
    """The client library of this test."""
    if way[0] == "java":
        java: Java = request.getfixturevalue("java")
        require(java.missing())
        return java
    return LIBRARIES[way[0]]()


@pytest.fixture
def wish(request: pytest.FixtureRequest, bootstrap: str) -> Wish:
    """A member of a new group on a new topic of PARTITIONS partitions."""
    strategy = request.getfixturevalue("way")[1] if "way" in request.fixturenames else "range"
    name = f"group-{time.monotonic_ns()}-{next(NUMBERS)}"
    with wire.Connection(wire.address(bootstrap)) as connection:
        wire.create_topic(connection, name, PARTITIONS)
    return Wish(bootstrap, name, (name,), strategy)


def ways(chosen: list[tuple[str, str]]) -> pytest.MarkDecorator:
    """Run the test for each of these libraries and strategies."""
    return pytest.mark.parametrize("way", chosen, ids=["-".join(way) for way in chosen])


def place(wish: Wish, partition: int) -> Place:
    return Place(wish.topics[0], partition)


def read(member: Member, wanted: int) -> list[Message]:
    """Poll until so many records have come; not one more may be there."""
    found: list[Message] = []

    def read_more() -> bool:
        found.extend(member.poll(0.1))
        return len(found) >= wanted

    wait_until(read_more, f"{wanted} records")
    assert len(found) == wanted
    return found


def own_all(member: Member) -> None:
    """Poll until it owns every partition; there is nothing to read."""

    def poll() -> bool:
        assert not member.poll(0.05)
        return len(member.assignment()) == PARTITIONS

    wait_until(poll, "all partitions")


@ways(BOTH)
def test_the_next_member_begins_where_the_last_one_closed(library: Library, wish: Wish) -> None:
    """Commits by themselves, the last of them while closing."""
    with crew(library, wish._replace(auto_commit=True)) as group:
        produce(wish, range(300))
        first = group.join()
        assert Counter(one.value for one in read(first, 300)) == Counter(map(str, range(300)))
        group.leave(first)
        produce(wish, range(300, 360))
        second = group.join()
        assert {int(one.value) for one in read(second, 60)} == set(range(300, 360))


@ways(BOTH)
def test_commits_by_hand_are_what_the_group_has(library: Library, wish: Wish) -> None:
    with crew(library, wish) as group:
        produce(wish, range(60))
        member = group.join()
        read(member, 60)
        assert member.committed(place(wish, 0)) is None
        member.commit()
        assert [member.committed(place(wish, index)) for index in range(PARTITIONS)] == [10] * PARTITIONS
        produce(wish, range(60, 120))
        read(member, 60)
        member.commit_later()
        group.until(member.commits_done, "the commit's answer")
        assert member.commits_done() == [None]
        assert member.committed(place(wish, 0)) == 20
        member.commit_at(place(wish, 3), 7, "größer als sechs")
        assert committed_metadata(wish, place(wish, 3)) == (7, "größer als sechs")
        group.leave(member)
        successor = group.join()
        assert {(one.place.partition, one.offset) for one in read(successor, 13)} == {
            (3, offset) for offset in range(7, 20)
        }


@ways(BOTH)
def test_where_a_group_without_offsets_begins_is_the_members_choice(library: Library, wish: Wish) -> None:
    produce(wish, range(30))
    with crew(library, wish._replace(reset="latest")) as group:
        late = group.join()
        own_all(late)
        found, numbers = list[Message](), count(30)

        def read_new() -> bool:
            """What is written before a member has asked for the end of a partition is old, too."""
            produce(wish, islice(numbers, PARTITIONS))
            found.extend(late.poll(0.1))
            return len({one.place for one in found}) == PARTITIONS

        wait_until(read_new, "something new of each partition")
        assert min(int(one.value) for one in found) >= 30
    written = next(numbers)
    with crew(library, wish._replace(group=f"{wish.group}-early")) as group:
        assert len(read(group.join(), written)) == written


@ways(BOTH)
def test_a_member_seeks_pauses_and_resumes(library: Library, wish: Wish) -> None:
    produce(wish, range(120))
    with crew(library, wish) as group:
        member = group.join()
        read(member, 120)
        member.seek(place(wish, 1), 15)
        member.seek(place(wish, 2), 18)
        assert {(one.place.partition, one.offset) for one in read(member, 7)} == {
            *((1, offset) for offset in range(15, 20)),
            *((2, offset) for offset in range(18, 20)),
        }
        member.pause([place(wish, 0)])
        produce(wish, range(120, 126))
        assert 0 not in {one.place.partition for one in read(member, 5)}
        member.resume([place(wish, 0)])
        assert [one.place.partition for one in read(member, 1)] == [0]


@ways(ALL)
def test_members_come_and_go_and_every_record_is_read_once(library: Library, wish: Wish) -> None:
    """Ten thousand records; what a member could not commit because the group moved on is read again."""
    with crew(library, wish) as group:
        group.join()
        group.settle(PARTITIONS)
        produce(wish, range(2_500))
        second = group.join()
        group.until(lambda: len(group.read) > 1_000, "records")
        third = group.join()
        produce(wish, range(2_500, 5_000))
        group.settle(PARTITIONS)
        produce(wish, range(5_000, 7_500))
        group.leave(second)
        produce(wish, range(7_500, 10_000))
        group.settle(PARTITIONS)
        group.until(lambda: len(group.read) >= 10_000, "the last record")
        group.leave(third)
        group.settle(PARTITIONS)
    seen = Counter(int(one.value) for one in group.read)
    assert not [number for number, times in seen.items() if times > 1]
    assert len(seen) == 10_000


@ways(
    [
        *CLASSIC,
        ("confluent-kafka", "cooperative-sticky"),
        ("confluent-kafka", "consumer"),
        ("java", "consumer"),
    ]
)
def test_a_static_member_that_restarts_moves_nothing(library: Library, wish: Wish) -> None:
    with crew(library, wish) as group:
        stays, restarts = group.join(instance="stays"), group.join(instance="restarts")
        group.settle(PARTITIONS)
        owned, taken = (stays.assignment(), restarts.assignment()), len(stays.revoked())
        group.leave(restarts)
        again = group.join(instance="restarts")
        group.until(lambda: again.assignment(), "the partitions of the one that restarts")
        produce(wish, range(60))
        group.until(lambda: len(group.read) >= 60, "records")
        assert (stays.assignment(), again.assignment()) == owned
        assert len(stays.revoked()) == taken


def kcat(wish: Wish, *more: str) -> subprocess.Popen[str]:
    """A member that prints partition, offset and value; it ends by itself only with -e."""
    how = ["-b", wish.bootstrap, "-G", wish.group, *wish.topics, "-q", "-f", "%p %o %s\n"]
    settings = ["-X", "auto.offset.reset=earliest", "-X", "heartbeat.interval.ms=200"]
    return subprocess.Popen(["kcat", *settings, *more, *how], stdout=subprocess.PIPE, text=True)


def test_kcat_reads_as_a_member_of_a_group(wish: Wish) -> None:
    """All that is there, and with the next run only what is new."""
    require(Kcat().missing())
    for numbers in (range(120), range(120, 180)):
        produce(wish, numbers)
        with kcat(wish, "-e") as running:
            out, _ = running.communicate(timeout=PATIENCE_S)
        assert running.returncode == 0
        assert sorted(int(line.split()[2]) for line in out.splitlines()) == list(numbers)
