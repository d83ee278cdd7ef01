"""The client's side of groups: coordinators that move, load or refuse; odd groups; limits and exit codes."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tailrace.clients.cli.hooks import Hooks
from tailrace.clients.cli.root import exit_code
from tailrace.clients.cluster import Cluster
from tailrace.clients.groups import BY_NAME, Groups
from tailrace.clients.lag import PartitionLag, lag_of
from tailrace.clients.producer import Producer
from tailrace.core import errors
from tailrace.core.config import BrokerConfig
from tailrace.core.errors import KafkaError
from tailrace.core.protocol.apis import (
    DELETE_GROUPS,
    FIND_COORDINATOR,
    LIST_GROUPS,
    METADATA,
    OFFSET_COMMIT,
    OFFSET_DELETE,
    OFFSET_FETCH,
)
from tailrace.core.protocol.messages.describe_groups import DescribeGroupsResponseMember
from tests.support.fake_groups import FakeGroupBroker
from tests.support.hooks import no_supervisor

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def broker() -> Iterator[FakeGroupBroker]:
    """A broker with one group that has read three of five records."""
    with FakeGroupBroker() as fake:
        fake.add_topic("orders", 1)
        fake.offsets["billing"] = {("orders", 0): 3}
        with Cluster(fake.address) as cluster, Producer(cluster) as producer:
            for _ in range(5):
                producer.send("orders", b"x", partition=0, timestamp_ms=1000)
        yield fake


@pytest.fixture
def groups(broker: FakeGroupBroker) -> Iterator[Groups]:
    """A client that is not patient."""
    with Cluster(broker.address, timeout_s=0.3) as cluster:
        yield Groups(cluster)


@pytest.fixture
def run(
    broker: FakeGroupBroker, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Runs one command line against the broker: exit code, output, complaints."""
    monkeypatch.setenv("BOOTSTRAP_SERVERS", broker.address)

    def nothing(_: BrokerConfig | str) -> Any:
        raise AssertionError("the processes of this machine were not asked for")

    def run_command(*arguments: str) -> tuple[int, str, str]:
        capfdbinary.readouterr()
        code = exit_code(arguments, Hooks(nothing, nothing, nothing, no_supervisor))
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return run_command


def test_a_coordinator_that_moved_is_looked_for_again(broker: FakeGroupBroker, groups: Groups) -> None:
    broker.faults[FIND_COORDINATOR] = [errors.COORDINATOR_NOT_AVAILABLE]
    broker.faults[OFFSET_FETCH] = [errors.NOT_COORDINATOR]
    assert groups.offsets("billing") == {"orders": {0: 3}}
    assert len(broker.messages(FIND_COORDINATOR)) == 3
    groups.offsets("billing")
    assert len(broker.messages(FIND_COORDINATOR)) == 3, "the good answer is kept"


def test_a_coordinator_that_loads_for_ever_is_given_up(broker: FakeGroupBroker, groups: Groups) -> None:
    broker.faults[OFFSET_COMMIT] = [errors.COORDINATOR_LOAD_IN_PROGRESS] * 100
    with pytest.raises(KafkaError) as refused:
        groups.commit("billing", {"orders": {0: 4}})
    assert refused.value.code == errors.COORDINATOR_LOAD_IN_PROGRESS
    assert broker.offsets["billing"] == {("orders", 0): 3}


def test_a_refusal_is_not_repeated(broker: FakeGroupBroker, groups: Groups) -> None:
    broker.faults[OFFSET_COMMIT] = [errors.UNKNOWN_MEMBER_ID]
    with pytest.raises(KafkaError):
        groups.commit("billing", {"orders": {0: 4}})
    assert len(broker.messages(OFFSET_COMMIT)) == 1


def test_offsets_are_asked_for_by_name(broker: FakeGroupBroker, groups: Groups) -> None:
    """A version that names topics by id could not tell the name of a deleted one."""
    broker.offsets["billing"]["gone", 2] = 7
    assert groups.offsets("billing") == {"orders": {0: 3}, "gone": {2: 7}}
    assert {version for key, version, _ in broker.requests if key == OFFSET_FETCH} == {BY_NAME}


def test_the_lag_of_a_deleted_topic_is_unknown(broker: FakeGroupBroker) -> None:
    broker.offsets["billing"]["gone", 2] = 7
    with Cluster(broker.address) as cluster:
        gone, orders = lag_of(cluster, "billing", {"orders": [0]})
    assert gone == PartitionLag(topic="gone", partition=2, committed=7, end=None, records=None, seconds=None)
    assert (orders.committed, orders.end, orders.records) == (3, 5, 2)
    assert orders.seconds
    assert orders.seconds > 1_000_000, "since 1970"


def test_what_is_no_assignment_of_partitions_is_not_shown(broker: FakeGroupBroker, run: Run) -> None:
    """Connect's workers are members of groups too, and what they are assigned is no partitions."""
    broker.members["billing"] = [DescribeGroupsResponseMember("m", None, "connect", "/h", b"", b"\0\1junk")]
    code, out, _ = run("group", "describe", "billing", "-o", "json")
    assert code == 0
    (shown,) = json.loads(out)
    assert [member["assignment"] for member in shown["members"]] == [{}]
    table = run("group", "describe", "billing")[1].splitlines()
    assert table[0].split()[:5] == ["billing", "classic", "Stable", "members", "1"]
    assert table[2].split() == ["m", "-", "connect", "/h", "-"]


def test_a_group_with_members_is_not_moved(broker: FakeGroupBroker, run: Run) -> None:
    broker.members["billing"] = [DescribeGroupsResponseMember("m")]
    for command in (("seek", "billing", "--to", "end"), ("reset", "billing", "--to-latest", "--all-topics")):
        code, out, err = run("group", *command)
        assert (code, out) == (1, "")
        assert "stop them first" in err
    code, _, err = run("group", "delete", "billing")
    assert (code, err) == (1, "tailrace: NON_EMPTY_GROUP: group billing has members: stop them first\n")
    assert not broker.messages(OFFSET_COMMIT)


def test_reset_changes_nothing_until_it_is_told_to(broker: FakeGroupBroker, run: Run) -> None:
    code, out, err = run("group", "reset", "billing", "--to-earliest", "--all-topics")
    assert (code, out.split()[-4:]) == (0, ["orders", "0", "3", "0"])
    assert "--execute" in err
    assert broker.offsets["billing"] == {("orders", 0): 3}
    assert run("group", "reset", "billing", "--to-earliest", "--all-topics", "--execute")[0] == 0
    assert broker.offsets["billing"] == {("orders", 0): 0}


@pytest.mark.parametrize(
    "arguments",
    [
        ("group", "seek", "billing"),
        ("group", "seek", "billing", "--to", "end", "--to-file", "x"),
        ("group", "seek", "billing", "--to", "end", "-t", "orders:x"),
        ("group", "reset", "billing", "--all-topics"),
        ("group", "reset", "billing", "--to-latest"),
        ("group", "reset", "billing", "--to-latest", "--to-earliest", "--all-topics"),
        ("group", "reset", "billing", "--to-latest", "--all-topics", "--topic", "orders"),
        ("group", "reset", "billing", "--to-latest", "--all-topics", "--execute", "--dry-run"),
        ("topic", "trim", "orders"),
        ("topic", "trim", "orders", "--before-offset", "1", "--before-time", "1"),
        ("topic", "alter-config", "orders"),
        ("topic", "alter-config", "orders", "a"),
        ("topic", "alter-config", "orders", "a=1", "--delete", "a"),
        ("lag", "--watch", "--interval", "0"),
        ("lag", "--watch", "--interval", "nan"),
        ("lag", "--max-seconds", "nan"),
        ("lag", "--timeout", "inf"),
        ("topic", "trim", "orders", "--before-offset", "9" * 19),
        ("topic", "add-partitions", "orders", "9" * 10),
        ("group", "list", "--type", "clasic"),
    ],
)
def test_what_is_not_understood_asks_for_nothing(
    broker: FakeGroupBroker, run: Run, arguments: tuple[str, ...]
) -> None:
    before = len(broker.messages(OFFSET_COMMIT))
    code, _, err = run(*arguments)
    assert code == 2
    assert err.count("\n") == 1
    assert len(broker.messages(OFFSET_COMMIT)) == before


def test_failures_have_their_exit_codes(broker: FakeGroupBroker, run: Run) -> None:
    assert run("group", "describe", "nobody")[0] == 5
    assert run("group", "seek", "nobody", "--to", "end")[0] == 5
    assert run("group", "seek", "billing", "--to", "end", "-t", "orders:7")[0] == 5
    assert run("lag", "nobody")[0] == 5
    for absent in ("orders:7", "nothing"):  # brokers call these a retriable failure, and a success
        assert run("group", "delete", "billing", "-t", absent)[0] == 5
    assert not broker.messages(OFFSET_DELETE)
    for api_key, arguments in (
        (LIST_GROUPS, ("group", "list")),
        (OFFSET_FETCH, ("lag", "billing")),
        (DELETE_GROUPS, ("group", "delete", "billing")),
    ):
        broker.faults[api_key] = [errors.GROUP_AUTHORIZATION_FAILED]
        assert run(*arguments)[0] == 4
    assert run("lag", "-b", "127.0.0.1:1")[0] == 3


def test_lag_ends_with_one_line_a_group_over_a_limit(broker: FakeGroupBroker, run: Run) -> None:
    broker.offsets["idle"] = {("orders", 0): 5}
    code, out, err = run(
        "lag", "--watch", "billing", "idle", "-o", "json", "--max-records", "1", "--max-seconds", "9"
    )
    assert code == 1
    assert [lag["records"] for lag in json.loads(out)] == [2, 0]
    assert err == "tailrace: group billing is 2 records behind, more than 1\n"
    assert run("lag", "billing", "--max-records", "2")[0] == 0
    assert "s behind" in run("lag", "billing", "--max-seconds", "9")[2]


def test_groups_are_known_to_the_broker_that_is_reached(broker: FakeGroupBroker, run: Run) -> None:
    code, out, _ = run("group", "list")
    assert (code, out.split()[4:]) == (0, ["billing", "Empty", "Classic", "consumer"])
    assert [message.topics for message in broker.messages(METADATA)][-1] == []


def test_a_watched_lag_is_measured_again_until_it_is_over_or_interrupted(
    broker: FakeGroupBroker, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def fall_behind(seconds: float) -> None:
        """What happens between two looks."""
        pauses.append(seconds)
        if len(pauses) > 2:
            raise KeyboardInterrupt
        broker.offsets["billing"]["orders", 0] -= 1

    monkeypatch.setattr("tailrace.clients.cli.lag_command.time.sleep", fall_behind)
    watch = ("lag", "billing", "--watch", "--interval", "7", "-o", "json")
    code, out, _ = run(*watch, "--max-records", "3")
    assert (code, pauses) == (1, [7.0, 7.0])
    assert [json.loads(line)[0]["records"] for line in out.splitlines()] == [2, 3, 4]
    assert run(*watch)[0] == 130
