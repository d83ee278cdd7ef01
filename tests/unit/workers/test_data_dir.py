"""Whose directory it is, and that there is one holder at a time."""

import os
import threading
from pathlib import Path

import pytest

from tailrace.workers.data_dir import DataDirError, RunInfo, open_data_dir, read_info


def open_it(path: Path, *, node_id: int = 0, cluster_id: str | None = None) -> int:
    """Open and return the descriptor that holds the lock."""
    return open_data_dir(str(path), node_id=node_id, cluster_id=cluster_id, wait_s=0.0).lock_fd


def refused(path: Path, *, node_id: int = 0, cluster_id: str | None = None) -> str:
    with pytest.raises(DataDirError) as caught:
        open_it(path, node_id=node_id, cluster_id=cluster_id)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_new_directory_gets_an_identity_that_stays(tmp_path: Path) -> None:
    first = open_data_dir(str(tmp_path / "new" / "data"), node_id=3, cluster_id=None, wait_s=0.0)
    os.close(first.lock_fd)
    second = open_data_dir(first.path, node_id=3, cluster_id=None, wait_s=0.0)
    os.close(second.lock_fd)
    assert (first.cluster_id, first.directory_id) == (second.cluster_id, second.directory_id)
    assert len(first.cluster_id) == 22
    assert os.stat(first.path).st_mode & 0o777 == 0o700


def test_a_locked_directory_is_refused_and_its_holder_named(tmp_path: Path) -> None:
    held = open_data_dir(str(tmp_path), node_id=0, cluster_id=None, wait_s=0.0)
    held.write_info(RunInfo(pid=123, run_dir="r", bootstrap="127.0.0.1:9", unix="u"))
    try:
        assert "in use by process 123 (127.0.0.1:9)" in refused(tmp_path)
        info = read_info(str(tmp_path))
        assert info is not None
        assert info.pid == 123
    finally:
        os.close(held.lock_fd)
    assert read_info(str(tmp_path)) is None


def test_the_lock_is_held_as_long_as_any_forked_process_lives(tmp_path: Path) -> None:
    """Fails when the lock is taken with lockf, which a fork does not inherit (R)."""
    lock_fd = open_it(tmp_path)
    end, other_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(other_end)
        os.read(end, 1)  # until the test closes its end, or is gone
        os._exit(0)
    os.close(end)
    os.close(lock_fd)
    try:
        assert "in use" in refused(tmp_path)
    finally:
        os.close(other_end)
        os.waitpid(child, 0)
    os.close(open_it(tmp_path))


def test_a_start_waits_for_a_dying_holder(tmp_path: Path) -> None:
    held = open_data_dir(str(tmp_path), node_id=0, cluster_id=None, wait_s=0.0)
    waiting = threading.Event()

    def let_go() -> None:
        waiting.wait()
        os.close(held.lock_fd)

    dying = threading.Thread(target=let_go)
    dying.start()
    waiting.set()
    waited = open_data_dir(str(tmp_path), node_id=0, cluster_id=None, wait_s=30.0)
    dying.join()
    os.close(waited.lock_fd)
    assert waited.cluster_id == held.cluster_id


def test_foreign_directories_are_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    assert "holds 'photo.jpg'" in refused(tmp_path)
    (tmp_path / "meta.properties").write_text("version=1\ncluster.id=x\nnode.id=0\n")
    assert "Apache Kafka" in refused(tmp_path)


def test_another_node_or_cluster_is_refused(tmp_path: Path) -> None:
    os.close(open_it(tmp_path, node_id=1, cluster_id="c1"))
    assert "node.id 1, not 2" in refused(tmp_path, node_id=2)
    assert "cluster c1, not c2" in refused(tmp_path, node_id=1, cluster_id="c2")


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "not a directory" in refused(tmp_path / "file")
    assert "not a directory" in refused(tmp_path / "file" / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_directory_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "not writable" in refused(tmp_path)
