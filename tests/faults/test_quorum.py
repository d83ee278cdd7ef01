"""Three controllers, real ones: the leading one is killed or stands still, a follower dies, a disk is new.

What was decided stays decided, and all three logs tell the same.
"""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from tailrace.core.log.segment import LOG_SUFFIX, file_name
from tailrace.core.metadata.delta import MetadataDelta, delta_between
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.protocol.apis import DESCRIBE_QUORUM
from tailrace.core.protocol.compile import decode
from tailrace.core.protocol.messages.describe_quorum import (
    DescribeQuorumResponse,
    DescribeQuorumResponsePartition,
)
from tailrace.core.raft.raft_log import BatchRange, split_batches
from tailrace.core.raft.snapshot import parse_snapshot_name
from tailrace.workers.metadata_follower import MetadataReader
from tests.support.quorum_cases import METADATA, described
from tests.support.raw_client import RawClient
from tests.support.three_brokers import IDS, Host, running
from tests.support.waiting import wait_until

NUMBERS = count()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Started anew for these tests, each of which leaves all of it running."""
    with running(tmp_path_factory.mktemp("host")) as started:
        yield started


def quorum(host: Host, asked: int = 2) -> DescribeQuorumResponsePartition:
    """What a broker tells of it, once there is a leader."""
    with RawClient(host.addresses[asked]) as client:
        client.ask(DESCRIBE_QUORUM, 2, described((METADATA, [0])))
        answer = decode(DescribeQuorumResponse, 2, client.last[5:])
    assert not answer.error_code, answer
    found: DescribeQuorumResponsePartition = answer.topics[0].partitions[0]
    return found


def voters(host: Host) -> dict[int, bytes]:
    """Directories by id."""
    return {voter.replica_id: bytes(voter.replica_directory_id) for voter in quorum(host).current_voters}


def kill_controller(host: Host, broker: int) -> None:
    """kill -9; returns when another process has its place."""
    (pid,) = host.pids(broker, "controller")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: host.pids(broker, "controller") not in ([], [pid]), "another controller")


def decide(host: Host) -> str:
    """A topic more, seen by all."""
    topic = f"topic-{next(NUMBERS)}"
    host.create(topic, 3)
    wait_until(
        lambda: all(topics(host, broker, topic) == 3 for broker in IDS), f"{topic} to be told of by all"
    )
    return topic


def topics(host: Host, broker: int, topic: str) -> int:
    """How many partitions of a topic a broker tells of."""
    (found,) = host.metadata(broker, topic)["topics"]
    return len(found["partitions"])


def batches(host: Host, broker: int) -> list[BatchRange]:
    """All of a controller's copy of the log."""
    directory = host.data / f"broker-{broker}" / f"{METADATA}-0"
    return [batch for path in sorted(directory.glob("*.log")) for batch in split_batches(path.read_bytes())]


def check_logs_agree(host: Host, topic: str) -> None:
    """Up to the batch that made this topic, which all have committed."""
    logs = [batches(host, broker) for broker in IDS]
    ends = [next(i for i, batch in enumerate(log) if topic.encode() in bytes(batch.data)) for log in logs]
    told = [[bytes(batch.data) for batch in log[: end + 1]] for log, end in zip(logs, ends, strict=True)]
    assert told[0] == told[1] == told[2]


def image(host: Host, broker: int) -> MetadataImage:
    """What a controller's snapshot and log come to, if all of the log is committed."""
    found, log = MetadataImage(), batches(host, broker)
    end_offset = log[-1].next_offset if log else 1
    MetadataReader(str(host.data / f"broker-{broker}")).advance(found, end_offset)
    return found


def images_agree(host: Host) -> bool:
    """Whether those of all three say the same; meanwhile more may be decided."""
    try:
        first, *others = [image(host, broker) for broker in IDS]
    except FileNotFoundError:  # one of them took a snapshot just now
        return False
    return all(
        other.metadata_offset == first.metadata_offset and delta_between(first, other) == MetadataDelta()
        for other in others
    )


def test_the_leading_controller_is_killed(host: Host) -> None:
    before = decide(host)
    was = quorum(host)
    kill_controller(host, was.leader_id)
    after = decide(host)
    now = quorum(host)
    assert now.leader_epoch > was.leader_epoch
    assert now.high_watermark > was.high_watermark
    assert all(topics(host, broker, before) == 3 for broker in IDS)
    check_logs_agree(host, after)


def test_a_following_controller_is_killed_and_the_leader_stays(host: Host) -> None:
    was = quorum(host)
    kill_controller(host, next(broker for broker in IDS if broker != was.leader_id))
    after = decide(host)
    now = quorum(host)
    assert (now.leader_id, now.leader_epoch) == (was.leader_id, was.leader_epoch)
    check_logs_agree(host, after)


def test_two_leading_controllers_are_killed_one_after_the_other(host: Host) -> None:
    before = decide(host)
    epochs: list[int] = []
    for _ in range(2):
        was = quorum(host)
        epochs.append(was.leader_epoch)
        (pid,) = host.pids(was.leader_id, "controller")
        os.kill(pid, signal.SIGKILL)
    after = decide(host)
    epochs.append(quorum(host).leader_epoch)
    assert sorted(set(epochs)) == epochs
    assert all(topics(host, broker, before) == 3 for broker in IDS)
    check_logs_agree(host, after)


def test_a_leading_controller_that_stands_still_is_replaced_and_believed_no_more(host: Host) -> None:
    before = decide(host)
    was = quorum(host)
    (pid,) = host.pids(was.leader_id, "controller")
    os.kill(pid, signal.SIGSTOP)
    try:
        other = next(broker for broker in IDS if broker != was.leader_id)
        wait_until(lambda: quorum(host, other).leader_epoch > was.leader_epoch, "another leader")
        topic = f"topic-{next(NUMBERS)}"
        host.create(topic, 3)
    finally:
        os.kill(pid, signal.SIGCONT)
    after = decide(host)
    assert all(topics(host, broker, each) == 3 for broker in IDS for each in (before, topic))
    check_logs_agree(host, after)


def test_a_broker_that_comes_with_a_new_disk_has_all_of_it_and_votes_again(tmp_path: Path) -> None:
    """(R) Also where the others' logs begin with a snapshot."""
    settings = {"metadata_log_max_record_bytes_between_snapshots": "600"}
    with running(tmp_path, **settings) as host:
        made = [decide(host) for _ in range(4)]
        for _ in range(4):  # perhaps in the middle of one
            for pid in host.all_pids("controller"):
                with suppress(ProcessLookupError):  # who leads no more ends by itself
                    os.kill(pid, signal.SIGKILL)
            made.append(decide(host))
        old = voters(host)
    directory = host.data / "broker-2" / f"{METADATA}-0"
    assert any(parse_snapshot_name(path.name) for path in directory.iterdir())
    shutil.rmtree(host.data / "broker-1")
    with running(tmp_path, **settings) as host:
        wait_until(lambda: voters(host).get(1, old[1]) != old[1], "it to vote")
        now = voters(host)
        assert {node_id: now[node_id] for node_id in (2, 3)} == {2: old[2], 3: old[3]}
        decide(host)
        assert all(topics(host, broker, topic) == 3 for broker in IDS for topic in made)
        assert not (host.data / "broker-1" / f"{METADATA}-0" / file_name(0, LOG_SUFFIX)).exists()
        wait_until(lambda: images_agree(host), "all three to say the same")


def test_a_broker_that_is_started_where_its_disk_was_lost_ends_and_votes_for_nobody(tmp_path: Path) -> None:
    """(R) An empty log under the name of the lost one would vote. Once all are started together it is new."""
    with running(tmp_path) as host:
        made = decide(host)
        old = voters(host)
        host.broker("kill", "1")
        (host.data / "broker-1").rename(tmp_path / "lost")
        (host.data / "broker-1").mkdir()
        refused = host.command("broker", "start", "1")
        assert refused.returncode
        assert "stopped meanwhile" in refused.stderr
        assert "where the metadata log lies, has failed" in host.log_file.read_text()
        assert not list((host.data / "broker-1").iterdir())
        host.create("meanwhile", 3)
        assert voters(host) == old
    with running(tmp_path) as host:
        wait_until(lambda: voters(host).get(1, old[1]) != old[1], "it to vote")
        assert all(topics(host, broker, made) == 3 for broker in IDS)
