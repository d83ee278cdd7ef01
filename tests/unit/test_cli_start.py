"""`tailrace start`: which arguments mean what, and how little is imported on the way to the supervisor."""

import subprocess
import sys
from pathlib import Path

import pytest

from tailrace.clients.cli.failures import USAGE
from tailrace.clients.cli.hooks import Hooks
from tailrace.clients.cli.start import StartArguments, configure, plain_arguments, start
from tailrace.core.config import BrokerConfig, ConfigError
from tests.support.hooks import no_supervisor


def nobody(_: str) -> None:
    """No broker runs on this machine."""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], StartArguments()),
        (["--data", "d", "--port=0"], StartArguments(data="d", port=0)),
        (["--set", "a=b=c", "--set=d=", "f"], StartArguments(settings=("a=b=c", "d="), file="f")),
        (["--brokers", "2"], StartArguments(brokers=2)),
        (["--port", "1", "--port", "2"], StartArguments(port=2)),
        (["--strict", "f"], StartArguments(file="f", strict=True)),
    ],
)
def test_plain_arguments_are_read_without_click(arguments: list[str], expected: StartArguments) -> None:
    assert plain_arguments(arguments) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["-h"],
        ["--data"],
        ["--data", "--port"],
        ["--dat", "d"],
        ["--port", "x"],
        ["--port", "65536"],
        ["--port", "-1"],
        ["--set", "a"],
        ["--set", "=a"],
        ["--strict=1"],
        ["a", "b"],
        ["--"],
    ],
)
def test_everything_else_is_left_to_click(arguments: list[str]) -> None:
    assert plain_arguments(arguments) is None


def test_precedence_is_file_then_environment_then_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "server.properties"
    file.write_text("num.partitions=2\nfetch.max.bytes=2000\nlog.dirs=/file\nlisteners=PLAINTEXT://[::1]:5\n")
    monkeypatch.setenv("KAFKA_NUM_PARTITIONS", "3")
    monkeypatch.setenv("KAFKA_FETCH_MAX_BYTES", "3000")
    arguments = StartArguments(data=str(tmp_path), port=7, settings=("num.partitions=4",), file=str(file))
    config, warnings = configure(arguments)
    assert (config.num_partitions, config.fetch_max_bytes) == (4, 3000)
    assert config.log_dirs == (str(tmp_path),)
    assert config.listeners == (("PLAINTEXT", "::1", 7),)
    assert not warnings


def test_the_default_data_directory_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    config, _ = configure(StartArguments())
    assert config.log_dirs == (str(tmp_path / "tailrace" / "data"),)


def test_properties_may_be_latin_1(tmp_path: Path) -> None:
    file = tmp_path / "server.properties"
    file.write_bytes("broker.rack=é\n".encode("latin-1"))
    assert configure(StartArguments(data="d", file=str(file)))[0].rack == "é"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (None, "No such file or directory"),
        (b"a=\\u12", "four hexadecimal digits"),
        (b"\xff\xfea\0", "save it as UTF-8"),
        (b"#" * (1 << 20) + b"\n", "larger than 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, raw: bytes | None, words: str) -> None:
    file = tmp_path / "server.properties"
    if raw is not None:
        file.write_bytes(raw)
    with pytest.raises(ConfigError, match=words) as caught:
        configure(StartArguments(data="d", file=str(file)))
    assert repr(str(file)) in str(caught.value)


def test_an_endless_file_ends(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="larger"):
        configure(StartArguments(data="d", file="/dev/zero"))
    with pytest.raises(ConfigError, match="Is a directory"):
        configure(StartArguments(data="d", file=str(tmp_path)))
    with pytest.raises(ConfigError, match="null byte"):
        configure(StartArguments(data="d", file="a\0b"))


def test_a_data_directory_without_a_name_is_not_the_working_directory() -> None:
    with pytest.raises(SystemExit) as ended:
        configure(StartArguments(data=""))
    assert ended.value.code == USAGE


def test_a_user_without_a_home_is_asked_for_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(ConfigError, match="--data"):
        configure(StartArguments())


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_streams_never_become_files_of_the_broker(closed: tuple[int, ...]) -> None:
    """A log file opened as descriptor 2 would be written to by whatever complains."""
    script = (
        f"import os, sys; [os.close(fd) for fd in {closed}]\n"
        "os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
    )
    check = (
        "from tailrace.clients.cli.streams import open_streams\n"
        "import os, sys\n"
        "open_streams()\n"
        "print(end='', flush=True); print(end='', file=sys.stderr, flush=True)\n"
        "os._exit(min(os.open('/', os.O_RDONLY), 3) - 3)"
    )
    done = subprocess.run([sys.executable, "-c", script, check], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_comma_in_the_data_directory_is_refused() -> None:
    with pytest.raises(ConfigError, match="comma"):
        configure(StartArguments(data="a,b"))


def test_start_hands_the_configuration_over_and_returns_the_brokers_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[BrokerConfig] = []

    def run(config: BrokerConfig) -> int:
        seen.append(config)
        return 9

    arguments = StartArguments(data=str(tmp_path), settings=("nmu.partitions=1",))
    assert start(arguments, Hooks(run, nobody, nobody, no_supervisor)) == 9
    assert seen[0].log_dirs == (str(tmp_path),)
    warning = (
        "unknown configuration nmu.partitions (on the command line) is ignored; did you mean num.partitions?"
    )
    assert capsys.readouterr().err == f"tailrace: warning: {warning}\n"


def test_the_way_to_the_supervisor_is_light() -> None:
    script = (
        "import sys, tailrace.__main__ as m\n"
        "from tailrace.clients.cli.start import configure, plain_arguments\n"
        "configure(plain_arguments(['--data', 'd', '--port', '0', '--set', 'num.partitions=2']))\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {
        "click",
        "rich",
        "platformdirs",
        "difflib",
        "socket",
        "logging",
        "asyncio",
        "json",
        "dataclasses",
        "numpy",
    }
    assert not loaded & heavy
    assert not {
        name for name in loaded if name.startswith(("tailrace.core.protocol", "tailrace.core.config_unused"))
    }
