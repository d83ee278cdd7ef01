"""The command line against a broker in a thread: what it prints, its exit codes, one line a failure."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tailrace.clients.cli.hooks import Hooks
from tailrace.clients.cli.root import COMMANDS, exit_code
from tailrace.core import errors
from tailrace.core.config import BrokerConfig
from tailrace.core.protocol.apis import CREATE_TOPICS, METADATA
from tests.support.fake_broker import FakeBroker
from tests.support.hooks import no_supervisor


class Result(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


def no_broker(_: BrokerConfig) -> int:
    """For commands that start nothing."""
    raise AssertionError("nothing was to be started")


def nobody(_: str) -> Any:
    """No broker runs on this machine."""
    return None


def showing(status: dict[str, Any]) -> Hooks:
    """As if a broker ran with this status."""

    def read_status(_: str) -> dict[str, Any]:
        return status

    return Hooks(no_broker, nobody, read_status, no_supervisor)


def running_as(pid: int) -> Hooks:
    """As if this process were the supervisor."""

    def read_pid(_: str) -> int:
        return pid

    return Hooks(no_broker, read_pid, nobody, no_supervisor)


Run = Callable[..., Result]


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    """A broker without topics."""
    with FakeBroker() as fake:
        yield fake


@pytest.fixture
def run(
    broker: FakeBroker, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Runs one command line against the broker, with bytes on stdin."""
    monkeypatch.setenv("BOOTSTRAP_SERVERS", broker.address)

    def run_command(*arguments: str, stdin: bytes = b"", hooks: Hooks | None = None) -> Result:
        read_fd, write_fd = os.pipe()
        os.write(write_fd, stdin)
        os.close(write_fd)
        monkeypatch.setattr("tailrace.clients.cli.produce_command.STDIN", read_fd)
        capfdbinary.readouterr()
        code = exit_code(arguments, hooks or Hooks(no_broker, nobody, nobody, no_supervisor))
        os.close(read_fd)
        out, err = capfdbinary.readouterr()
        return Result(code, out.decode(), err.decode())

    return run_command


def test_topics_are_created_listed_described_and_deleted(run: Run) -> None:
    assert run("topic", "create", "orders", "-p", "2", "-c", "retention.ms=5") == (0, "created orders\n", "")
    assert run("topic", "list").out.split() == ["TOPIC", "PARTITIONS", "REPLICAS", "orders", "2", "1"]
    listed = json.loads(run("topic", "list", "-o", "json").out)
    assert listed == [{"topic": "orders", "partitions": 2, "replication_factor": 1}]
    (described,) = json.loads(run("topic", "describe", "orders", "-o", "json").out)
    assert [part["end"] for part in described["partitions"]] == [0, 0]
    assert "LEADER" in run("topic", "describe", "orders").out
    assert run("topic", "delete", "orders") == (0, "deleted orders\n", "")


def test_a_topic_that_exists_is_a_failure_unless_it_may(run: Run) -> None:
    run("topic", "create", "a")
    refused = run("topic", "create", "a")
    assert refused.code == 1
    assert refused.err == "tailrace: TOPIC_ALREADY_EXISTS: no for two lines\n"
    assert run("topic", "create", "a", "--if-not-exists").code == 0


def test_validate_only_creates_nothing(run: Run, broker: FakeBroker) -> None:
    assert run("topic", "create", "a", "--validate-only").out == "could create a\n"
    assert broker.messages(CREATE_TOPICS)[0].validate_only is True
    assert not broker.topics


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("topic", "describe", "none"), 5),
        (("topic", "delete", "none"), 5),
        (("consume", "-t", "none", "-e"), 5),
        (("topic", "list", "-b", "127.0.0.1:1"), 3),
        (("topic", "list", "-b", "not an address:x"), 3),
        (("produce", "-t", "a", "-b", "unix:/nowhere"), 3),
        (("status", "--data", "/nowhere"), 5),
        (("stop", "--data", "/nowhere"), 5),
        (("nonsense",), 2),
        (("produce",), 2),
        (("produce", "-t", "a", "-z", "brotli"), 2),
        (("produce", "-t", "a", "-D", "\\q"), 2),
        (("produce", "-t", "a", "-X", "acks=2"), 2),
        (("produce", "-t", "a", "-X", "nope=2"), 2),
        (("produce", "-t", "a", "/no/such/file"), 1),
        (("produce", "-t", "a", "/proc"), 1),
        (("consume", "-t", "a", "-o", "yesterday"), 2),
        (("consume", "-t", "a", "-o", "stored"), 2),
        (("consume", "-t", "a", "-f", "%x"), 2),
        (("topic", "create", "a", "-c", "retention.ms"), 2),
        (("topic", "create", "a", "-c", "=1"), 2),
        (("start", "--set", "num.partitions"), 2),
        (("start", "--port", "70000"), 2),
        (("start", "--brokers", "4"), 2),
        (("broker", "stop"), 2),
        (("broker", "stop", "x"), 2),
        (("broker", "list", "--data", ""), 2),
        (("broker", "kill", "1", "--data", "/no/such/directory"), 5),
        (("start", "--set", "num.partitions=x"), 1),
        (("start", "/no/such/file"), 1),
        (("start", "--set", "=x"), 2),
        (("start", "--strict", "--set", "num.partitons=3"), 1),
        (("config", "describe", "--strict", "--set", "num.partitons=3"), 1),
        (("config", "describe", "--set", "num.partitions=x"), 1),
        (("config", "describe", "/no/such/file"), 1),
        (("config", "describe", "--set", "x"), 2),
        (("status", "--data", ""), 2),
        (("stop", "--data", ""), 2),
    ],
)
def test_a_failure_is_one_line_and_its_own_exit_code(arguments: tuple[str, ...], code: int, run: Run) -> None:
    result = run(*arguments)
    assert result.code == code
    assert result.err.startswith("tailrace: ")
    assert result.err.count("\n") == 1
    assert result.out == ""


def test_a_broker_that_fails_to_answer_is_unreachable(run: Run, broker: FakeBroker) -> None:
    broker.faults[METADATA] = ["silent"]
    result = run("topic", "list", "--timeout", "0.05")
    assert result.code == 3
    assert "does not answer in time" in result.err


def test_lines_go_in_and_come_out(run: Run) -> None:
    assert run("produce", "-t", "a", stdin=b"one\ntwo\n\nfour") == (0, "", "")
    result = run("consume", "-t", "a", "-e")
    assert result.out == "one\ntwo\n\nfour\n"
    assert result.err == "% Reached end of topic a [0] at offset 4\n"


def test_kcats_flags_shape_what_is_sent(run: Run) -> None:
    run(
        "produce",
        "-t",
        "a",
        "-K",
        "\\t",
        "-D",
        ";",
        "-H",
        "h=1",
        "-H",
        "n",
        "-z",
        "gzip",
        "-p",
        "0",
        stdin=b"k\tv;x;",
    )
    assert run("consume", "-t", "a", "-e", "-q", "-f", "%t %p %o %K %k=%S %s [%h]\\n").out == (
        "a 0 0 1 k=1 v [h=1,n=NULL]\na 0 1 -1 =1 x [h=1,n=NULL]\n"
    )
    run("produce", "-t", "z", "-Z", "-k", "fixed", "-c", "1", stdin=b"\nnot sent\n")
    assert run("consume", "-t", "z", "-e", "-q", "-K", ":", "-Z", "-D", "|").out == "fixed:NULL|"


def test_whole_files_are_one_record_each_and_with_l_one_a_line(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a\nb\n")
    run("produce", "-t", "a", str(file))
    assert run("consume", "-t", "a", "-e", "-q", "-f", "%S ").out == "4 "
    run("produce", "-t", "b", "-l", str(file), str(file))
    assert run("consume", "-t", "b", "-e", "-q", "-f", "%S ").out == "1 1 1 1 "


def test_json_is_kcats_envelope(run: Run) -> None:
    run("produce", "-t", "a", "-k", "k", "-H", "h=1", stdin="é".encode())
    found = json.loads(run("consume", "-t", "a", "-e", "-q", "-J").out)
    assert found.pop("ts") > 0
    assert found == {
        "topic": "a",
        "partition": 0,
        "offset": 0,
        "tstype": "create",
        "headers": ["h", "1"],
        "key": "k",
        "payload": "é",
    }


def test_reading_starts_and_stops_where_it_is_told(run: Run) -> None:
    run("produce", "-t", "a", stdin=b"0\n1\n2\n3\n")
    assert run("consume", "-t", "a", "-e", "-q", "-o", "2").out == "2\n3\n"
    assert run("consume", "-t", "a", "-e", "-q", "-o", "-1").out == "3\n"
    assert run("consume", "-t", "a", "-e", "-q", "-o", "end").out == ""
    assert run("consume", "-t", "a", "-q", "-c", "2").out == "0\n1\n"
    assert run("consume", "-t", "a", "-q", "-o", "s@0", "-o", "e@1").out == ""
    assert run("consume", "-t", "a", "-q", "-o", "s@0", "-o", "e@99999999999999").out == "0\n1\n2\n3\n"


def test_a_partition_that_is_not_there_is_not_found(run: Run) -> None:
    run("topic", "create", "a")
    assert run("consume", "-t", "a", "-p", "4").code == 5


def test_status_shows_every_process(run: Run, broker: FakeBroker) -> None:
    run("topic", "create", "a")
    from tailrace.core.ids import uuid_text
    from tests.support.fake_broker import topic_id

    owned = [{"topic_id": uuid_text(topic_id("a")), "partition": 0}]
    shown: dict[str, Any] = {
        "data": "/d",
        "run_dir": "/r",
        "bootstrap": broker.address,
        "unix": "/u",
        "flush_policy": "group",
        "processes": [
            {"role": "gateway", "pid": 2, "broker": 0, "state": "ready", "partitions": []},
            {"role": "worker", "pid": 3, "broker": 0, "state": "ready", "partitions": owned},
        ],
        "log_dirs": [
            {"path": "/d", "failure": "", "lacking_bytes": 4096},
            {"path": "/e", "failure": "Input/output error"},
        ],
    }
    hooks = showing(shown)
    table = run("status", "--data", "/d", hooks=hooks).out
    assert table.splitlines()[0] == f"bootstrap={broker.address} unix=/u data=/d flush.policy=group"
    assert table.splitlines()[1:3] == [
        "full: /d: appends are refused until 4096 more bytes are free (disk.reserve.bytes)",
        "offline: /e: Input/output error",
    ]
    assert table.splitlines()[-1].split() == ["worker", "3", "0", "ready", "a-0"]
    assert (
        json.loads(run("status", "-o", "json", hooks=hooks).out)["processes"][1]["partitions"][0]["topic"]
        == "a"
    )


def test_status_shows_processes_while_the_gateway_is_away(run: Run) -> None:
    owned = [{"topic_id": "BBBBBBBBBBBBBBBBBBBBBQ", "partition": 0}]
    owned.append({"topic_id": "AAAAAAAAAAAAAAAAAAAAAQ", "partition": 0})
    worker = {"role": "worker", "pid": 3, "broker": 0, "state": "ready", "partitions": owned}
    shown: dict[str, Any] = {"data": "/d", "bootstrap": "127.0.0.1:1", "unix": "", "processes": [worker]}
    shown |= {"log_dirs": [], "flush_policy": "page"}
    result = run("status", hooks=showing(shown))
    assert result.code == 0
    assert "BBBBBBBBBBBBBBBBBBBBBQ-0,__cluster_metadata-0" in result.out


def test_stop_ends_the_supervisor_and_waits_for_it(run: Run) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as supervisor:
        result = run("stop", hooks=running_as(supervisor.pid))
        assert result == (0, "", "")
        assert supervisor.wait() == -signal.SIGTERM


def test_stop_says_so_when_the_supervisor_takes_too_long(run: Run) -> None:
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        supervisor.stdout.readline()
        result = run("stop", "--timeout", "0.01", hooks=running_as(supervisor.pid))
        supervisor.kill()
    assert result.code == 1
    assert "did not stop within 0.01 s" in result.err


def test_a_reader_that_leaves_is_no_traceback(run: Run, broker: FakeBroker) -> None:
    run("produce", "-t", "a", stdin=b"x\n")
    for arguments in (("consume", "-t", "a", "-e", "-q"), ("topic", "list")):
        read_fd, write_fd = os.pipe()
        os.close(read_fd)
        command = [sys.executable, "-m", "tailrace", *arguments, "-b", broker.address]
        done = subprocess.run(command, stdout=write_fd, stderr=subprocess.PIPE, check=False)
        os.close(write_fd)
        assert (done.returncode, done.stderr) == (1, b"")


def test_help_has_an_example(run: Run) -> None:
    group = {"topic": ("create", "list", "describe", "delete"), "config": ("describe",)}
    commands = [[], *([name] for name in COMMANDS)]
    commands += [[name, verb] for name, verbs in group.items() for verb in verbs]
    for command in commands:
        result = run(*command, "--help")
        assert result.code == 0
        assert "Example: " in result.out, command


def test_lists_of_commands_say_each_in_whole_words(run: Run) -> None:
    for group in ([], ["broker"], ["topic"], ["group"], ["log"]):
        assert "..." not in run(*group, "--help").out.partition("Commands:")[2], group


def test_where_no_broker_listens_it_is_said_what_to_do(run: Run, tmp_path: Path) -> None:
    result = run("topic", "list", "-b", f"unix:{tmp_path}/none")
    assert result.code == 3
    assert result.err.endswith(": No such file or directory: start a broker there, or name another with -b\n")
    assert (
        run("topic", "list", "-b", "host:x").err
        == "tailrace: 'host:x' is no address: host:port is expected\n"
    )


def on_host(states: dict[int, str]) -> Hooks:
    """As if a host had these brokers, which do as they are told."""

    def ask(_data_dir: str, what: str, broker: int, _timeout_s: float) -> list[dict[str, Any]]:
        if what != "list":
            states[broker] = "running" if what == "start" else "stopped"
        return [{"node_id": node_id, "state": state} for node_id, state in states.items()]

    return Hooks(no_broker, nobody, nobody, ask)


def test_who_stops_the_last_broker_is_told_how_to_go_on(run: Run) -> None:
    hooks = on_host({1: "running", 2: "running"})
    assert run("broker", "stop", "2", hooks=hooks) == (0, "", "")
    stopped = run("broker", "kill", "1", hooks=hooks)
    assert stopped.code == 0
    assert "`tailrace broker start ID` of more than half of them goes on" in stopped.err
    assert run("broker", "start", "1", hooks=hooks) == (0, "", "")
    alone = run("broker", "stop", "7", hooks=on_host({7: "running"}))
    assert "`tailrace broker start 7` goes on" in alone.err


@pytest.mark.parametrize(
    ("ids", "said"), [([0], "there is no broker 7: the only one is 0\n"), ([1, 2], "there are 1, 2\n")]
)
def test_a_broker_that_is_not_there_is_not_found(ids: list[int], said: str, run: Run) -> None:
    for what in ("stop", "kill", "start"):
        result = run("broker", what, "7", hooks=on_host(dict.fromkeys(ids, "running")))
        assert result.code == 5
        assert result.err.endswith(said)


def rolled(looks: list[list[str] | None], address: str) -> Hooks:
    """As if the brokers of a host were in these states at each look, the last from then on; None: it has
    ended.
    """

    def ask(_data_dir: str, what: str, _broker: int, _timeout_s: float) -> list[dict[str, Any]] | None:
        assert what == "list", "nothing was to be stopped"
        states = looks.pop(0) if len(looks) > 1 else looks[0]
        if states is None:
            return None
        return [
            {"node_id": node_id, "state": state, "bootstrap": address} for node_id, state in enumerate(states)
        ]

    return Hooks(no_broker, nobody, nobody, ask)


@pytest.mark.parametrize(
    ("later", "code", "said"),
    [
        (["running", "stopped"], 1, "broker 1 is stopped; no further broker is restarted\n"),
        (["stopping", "running"], 1, "broker 0 is stopping; no further broker is restarted\n"),
        (None, 5, "no broker runs on /nowhere\n"),
    ],
)
def test_a_rolling_restart_does_not_wait_for_what_somebody_stopped(
    later: list[str] | None, code: int, said: str, run: Run
) -> None:
    there = ["running", "running"]  # and nobody listens at their address: they are not in sync
    hooks = rolled([there, there, there, later], "127.0.0.1:1")
    result = run("restart", "--rolling", "--data", "/nowhere", hooks=hooks)
    assert (result.code, result.err) == (code, f"tailrace: {said}")


def test_a_rolling_restart_begins_with_all_brokers_running(run: Run) -> None:
    for state, said in (("stopped", "start it first"), ("stopping", "try again when that is over")):
        result = run("restart", "--rolling", hooks=rolled([["running", state]], ""))
        assert (result.code, result.err) == (1, f"tailrace: broker 1 is {state}: {said}\n")


def test_config_describe_shows_keys_values_and_sources(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_NUM_PARTITIONS", "3")
    shown = run("config", "describe", "--port", "7", "--set", "log.retention.hours=1", "-o", "json")
    assert shown.err == "tailrace: warning: accepted and not obeyed yet: log.retention.hours (LIMITS.md)\n"
    entries = {entry.pop("key"): entry for entry in json.loads(shown.out)}
    assert entries["num.partitions"]["value"] == "3"
    assert entries["num.partitions"]["source"] == "environment"
    assert entries["listeners"]["value"] == "PLAINTEXT://127.0.0.1:7"
    assert entries["listeners"]["source"] == "command line"
    assert entries["broker.rack"]["value"] is None
    table = run("config", "describe", "--ignored", "--set", "ssl.key.password=x").out.splitlines()
    assert table[0].split() == ["KEY", "VALUE", "SOURCE"]
    assert table[1].split() == ["ssl.key.password", "[hidden]", "command", "line"]


def test_a_command_that_is_not_there_is_answered_with_the_nearest(run: Run) -> None:
    hint = "No such command 'topics'. Did you mean 'topic'?"
    assert run("topics").err == f"tailrace: {hint} (see tailrace --help)\n"


def test_a_file_that_cannot_be_sent_is_named(run: Run) -> None:
    assert run("produce", "-t", "a", "/no/file").err == "tailrace: /no/file: No such file or directory\n"
    assert run("produce", "-t", "a", "-l", "/proc").err == "tailrace: /proc: Is a directory\n"


def test_an_empty_variable_is_as_none(run: Run, monkeypatch: pytest.MonkeyPatch, broker: FakeBroker) -> None:
    monkeypatch.setenv("BOOTSTRAP_SERVERS", "")
    monkeypatch.setattr("tailrace.clients.cli.options.DEFAULT_BOOTSTRAP", broker.address)
    assert run("topic", "list").code == 0


def test_what_a_terminal_would_obey_is_not_printed(run: Run) -> None:
    assert run("start", "--set", "num.partitions=\x1b[2J").err == (
        "tailrace: Invalid value \\x1b[2J for configuration num.partitions: Not a number of type INT "
        "(on the command line)\n"
    )


def test_deleted_topics_are_listed_in_json_too(run: Run) -> None:
    run("topic", "create", "a")
    assert json.loads(run("topic", "delete", "a", "-o", "json").out) == [{"topic": "a"}]


def test_an_error_code_without_words_shows_its_name(run: Run, broker: FakeBroker) -> None:
    broker.faults[METADATA] = [errors.TOPIC_AUTHORIZATION_FAILED]
    run("topic", "create", "a")
    broker.faults[METADATA] = [errors.TOPIC_AUTHORIZATION_FAILED]
    result = run("topic", "describe", "a")
    assert (result.code, result.err) == (4, "tailrace: TOPIC_AUTHORIZATION_FAILED: topic a\n")
