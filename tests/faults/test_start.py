"""A broker that cannot start says in one line what to do, and exits with 1."""

import socket
import subprocess
from pathlib import Path

import pytest

from perf.peers.tailrace import COMMAND, Tailrace


def refusal(data: Path, *arguments: str) -> str:
    """The one line that a failing start writes."""
    command = [str(COMMAND), "start", "--data", str(data), "--port", "0", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert str(port) in refusal(tmp_path / "data", "--port", str(port))


@pytest.mark.timeout(60)
def test_a_data_directory_in_use_is_refused(tmp_path: Path) -> None:
    broker = Tailrace(tmp_path)
    broker.start()
    try:
        assert broker.bootstrap
        line = refusal(broker.data)
        assert str(broker.data) in line
        assert str(broker.pid) in line
    finally:
        broker.stop()


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert str(tmp_path / "file") in refusal(tmp_path / "file" / "data")
    assert "/proc/data" in refusal(Path("/proc/data"))


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"precious")
    assert "photo.jpg" in refusal(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["photo.jpg"]


def test_a_data_directory_of_apache_kafka_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "meta.properties").write_text("version=1\ncluster.id=abc\nnode.id=1\n")
    assert str(tmp_path) in refusal(tmp_path)


def test_an_ill_typed_setting_is_named(tmp_path: Path) -> None:
    assert "log.segment.bytes" in refusal(tmp_path / "data", "--set", "log.segment.bytes=many")


def test_a_stdout_that_takes_nothing_is_one_line(tmp_path: Path) -> None:
    command = [str(COMMAND), "start", "--data", str(tmp_path / "data"), "--port", "0"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    said = "tailrace: cannot write the line that says ready to stdout: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)
