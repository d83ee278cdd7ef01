"""`tailrace log` and `tailrace doctor`: what needs no broker. And what shells are offered."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from tailrace.clients.cli import doctor_checks
from tailrace.clients.cli.hooks import Hooks
from tailrace.clients.cli.root import exit_code
from tailrace.core.config import BrokerConfig
from tailrace.core.groups import records
from tailrace.core.groups.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    ConsumerProtocolTopicPartitions,
    encode_consumer_protocol,
)
from tailrace.core.records.record import NewRecord, build_batch
from tests.support.hooks import no_supervisor
from tests.unit.log.logs import NOW, batch, fill, open_log

FIRST = f"{0:020d}"
Run = Callable[..., tuple[int, str, str]]


def no_broker(_: BrokerConfig) -> int:
    """For commands that start nothing."""
    raise AssertionError("nothing was to be started")


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs one command line: exit code, output, complaints."""
    for name in list(os.environ):
        if name.startswith("KAFKA_"):
            monkeypatch.delenv(name)

    def run_command(*arguments: str, holder: int | None = None, status: Any = None) -> tuple[int, str, str]:
        capfdbinary.readouterr()

        def read_pid(_: str) -> int | None:
            return holder

        def read_status(_: str) -> Any:
            return status

        code = exit_code(arguments, Hooks(no_broker, read_pid, read_status, no_supervisor))
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return run_command


@pytest.fixture
def partition(tmp_path: Path) -> Path:
    """A partition's directory in a data directory."""
    path = tmp_path / "data" / "orders-0"
    log = open_log(path)
    fill(log, 500)
    log.append_as_leader(batch("two words", producer=77, sequence=0, timestamp=NOW + 900), 1, NOW)
    log.close()
    return path


def lines(run: Run, *arguments: str) -> list[Any]:
    """The JSON objects, one a line, that a command prints."""
    code, out, err = run(*arguments, "-o", "json")
    assert (code, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def test_dump_prints_batches_and_records(run: Run, partition: Path) -> None:
    log = str(max(partition.glob("*.log")))
    last = lines(run, "log", "dump", log)[-1]
    assert (last["base_offset"], last["producer_id"], last["leader_epoch"]) == (500, 77, 1)
    record = lines(run, "log", "dump", log, "--records")[-1]
    assert record == {"record": 500, "timestamp": NOW + 900, "key": None, "value": "two words", "headers": []}
    code, out, _ = run("log", "dump", log, "--records")
    assert code == 0
    assert out.splitlines()[-1] == f'record 500  timestamp {NOW + 900}  key -  value "two words"  headers []'


def test_dump_prints_indexes_snapshots_and_checkpoints(run: Run, partition: Path) -> None:
    assert lines(run, "log", "dump", str(partition / f"{FIRST}.index"))[0] == {"offset": 2, "position": 340}
    times = lines(run, "log", "dump", str(partition / f"{FIRST}.timeindex"))
    assert times[0] == {"timestamp": NOW + 2, "offset": 2}
    (producer,) = lines(run, "log", "dump", str(max(partition.glob("*.snapshot"))))
    assert (producer["producer_id"], producer["last_offset"]) == (77, 500)
    epochs = lines(run, "log", "dump", str(partition / "leader-epoch-checkpoint"))
    assert epochs == [{"leader_epoch": 0, "start_offset": 0}, {"leader_epoch": 1, "start_offset": 500}]
    points = partition / "recovery-point-offset-checkpoint"
    points.write_text("0\n1\norders 0 7\n")
    assert lines(run, "log", "dump", str(points)) == [{"topic": "orders", "partition": 0, "offset": 7}]


def test_dump_says_offsets_in_words(run: Run, tmp_path: Path) -> None:
    commit = records.encode_key(records.OffsetCommitKey("billing", "orders", 3))
    subscription = encode_consumer_protocol(ConsumerProtocolSubscription(["orders"]), 3)
    given = ConsumerProtocolAssignment([ConsumerProtocolTopicPartitions("orders", [3])])
    member = records.GroupMetadataMember(
        "m-1", subscription=subscription, assignment=encode_consumer_protocol(given, 3)
    )
    pairs = [
        (commit, records.encode_value(records.OffsetCommitValue(offset=42))),
        (
            records.encode_key(records.GroupMetadataKey("billing")),
            records.encode_value(records.GroupMetadataValue("consumer", 1, "range", "m-1", members=[member])),
        ),
        (commit, None),
        (b"\x7f\xff", b"x"),
        (b"\0", b"x"),
    ]
    items = [NewRecord(key=key, value=value) for key, value in pairs]
    (tmp_path / f"{FIRST}.log").write_bytes(bytes(build_batch(items)))
    shown = lines(run, "log", "dump", str(tmp_path / f"{FIRST}.log"), "--offsets")[1:]
    assert [entry.get("type") for entry in shown] == [
        "OffsetCommit", "GroupMetadata", "OffsetCommit", None, None,
    ]  # fmt: skip
    assert (shown[0]["group"], shown[0]["partition"], shown[0]["value"]["offset"]) == ("billing", 3, 42)
    (described,) = shown[1]["value"]["members"]
    assert (described["subscription"], described["assignment"]) == (["orders"], {"orders": [3]})
    assert shown[2]["value"] is None
    assert all("error" in entry for entry in shown[3:])


def test_dump_prints_what_is_sound_before_it_fails(run: Run, partition: Path) -> None:
    log = partition / f"{FIRST}.log"
    data = bytearray(log.read_bytes())
    data[5000] ^= 1
    log.write_bytes(data)
    code, out, err = run("log", "dump", str(log))
    assert (code, len(out.splitlines())) == (1, 29)
    assert err == f"tailrace: {FIRST}.log: at byte 4930: its CRC does not match\n"


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("none.log", 5, "no such file"),
        ("", 2, "is a directory"),
        ("partition.metadata", 2, "no file of a log"),
    ],
)
def test_dump_of_what_is_no_file_of_a_log(run: Run, partition: Path, name: str, code: int, said: str) -> None:
    (partition / "partition.metadata").write_text("version: 0")
    found, _, err = run("log", "dump", str(partition / name))
    assert found == code
    assert said in err
    assert err.count("\n") == 1


def test_verify_checks_a_data_directory_or_a_partition(run: Run, partition: Path) -> None:
    for path in (partition, partition.parent):
        code, out, err = run("log", "verify", str(path), "--records")
        assert (code, err) == (0, "")
        assert out.splitlines()[1].split() == ["orders-0", "2", "501", "501", "85077", "501", "ok"]
    before = {path: path.stat().st_mtime_ns for path in partition.iterdir()}
    (partition / f"{FIRST}.index").write_bytes(b"\1" * 8)
    code, out, _ = run("log", "verify", str(partition))
    assert code == 1
    assert f"{partition / FIRST}.index at byte 0: an entry names byte" in out
    (shown,) = json.loads(run("log", "verify", str(partition), "-o", "json")[1])
    assert [fault["file"] for fault in shown["faults"]] == [f"{FIRST}.index"]
    changed = {path for path in partition.iterdir() if before.get(path) != path.stat().st_mtime_ns}
    assert changed == {partition / f"{FIRST}.index"}, "it only reads"


def test_verify_refuses_what_it_cannot_check(run: Run, partition: Path, tmp_path: Path) -> None:
    assert run("log", "verify", str(tmp_path / "none"))[0] == 5
    assert run("log", "verify", str(tmp_path))[0] == 2
    code, _, err = run("log", "verify", str(partition), holder=17)
    assert code == 1
    assert "process 17" in err
    assert "tailrace stop" in err


def doctor(run: Run, *arguments: str, **options: Any) -> dict[str, dict[str, str]]:
    """The findings by the name of the check."""
    found = json.loads(run("doctor", *arguments, "-o", "json", **options)[1])
    return {finding["check"]: finding for finding in found}


def test_doctor_finds_a_machine_fit_or_says_what_to_do(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    found = doctor(run, "--data", str(data), "--port", "0")
    assert {
        "platform",
        "shared memory",
        "open files",
        "clock",
        "data directory",
        "disk",
        "lock",
        "port",
    } <= set(found)
    assert found["data directory"]["status"] == "ok"
    assert not data.exists(), "it only looks"
    assert all(finding["advice"] for finding in found.values() if finding["status"] != "ok")
    data.mkdir(mode=0o755)
    assert doctor(run, "--data", str(data), "--port", "0")["data directory"]["advice"] == f"chmod 700 {data}"


def test_doctor_fails_where_no_broker_could_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    code, out, _ = run("doctor", "--data", str(tmp_path / "file"), "--port", "0")
    assert code == 1
    assert "name another one with --data" in out
    monkeypatch.setattr(doctor_checks, "FILES_FAIL", 1 << 62)
    monkeypatch.setattr(doctor_checks, "SHM_FAIL_BYTES", 1 << 62)
    monkeypatch.setattr(doctor_checks, "debris", Mock(return_value=["tailrace-0-1-x"]))
    found = doctor(run, "--data", str(tmp_path / "data"), "--port", "0")
    assert [found[check]["status"] for check in ("open files", "shared memory", "leftovers")] == [
        "fail", "fail", "warn",
    ]  # fmt: skip


def test_doctor_sees_a_lock_whose_holder_does_not_say_who_it_is(run: Run, tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = doctor(run, "--data", str(tmp_path), "--port", "0")
        assert found["lock"]["status"] == "warn"
        assert "port" not in found, "the broker may just be taking it"
    assert doctor(run, "--data", str(tmp_path), "--port", "0")["lock"]["status"] == "ok"


def test_doctor_asks_a_broker_that_holds_the_directory(run: Run, tmp_path: Path) -> None:
    processes = [{"role": "gateway", "state": "starting", "partitions": [{"offline": True}]}]
    status = {"bootstrap": "127.0.0.1:1", "processes": processes}
    found = doctor(run, "--data", str(tmp_path), holder=17, status=status)
    assert "process 17" in found["lock"]["found"]
    assert found["broker"]["status"] == "fail"
    assert found["processes"]["found"] == "gateway starting, 1 partitions offline"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("tailrace gr", ["group"]),
        ("tailrace group ", ["delete", "describe", "list", "reset", "seek"]),
        ("tailrace lag -o ", ["table", "json"]),
        ("tailrace log verify --rec", ["--records"]),
        ("tailrace none x", []),
    ],
)
def test_shells_complete_commands_options_and_choices(words: str, offered: list[str]) -> None:
    environment = {
        **os.environ,
        "_TAILRACE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    script = "import sys; sys.argv[0] = 'tailrace'; from tailrace.__main__ import main; main()"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert [line.partition(",")[2] for line in done.stdout.splitlines() if line] == offered
    assert not done.stderr
