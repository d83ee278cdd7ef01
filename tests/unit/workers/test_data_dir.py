"""Whose directory it is, and that there is one holder at a time."""

import os
import re
import shutil
import threading
from pathlib import Path

import pytest

from tailrace.core.config import load
from tailrace.workers.data_dir import (
    METADATA_LOG,
    DataDirError,
    RunInfo,
    open_data_dir,
    open_data_dirs,
    read_info,
)
from tailrace.workers.data_dirs import DataDirs, HostDirs


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


@pytest.mark.parametrize("version", [1, 99])
def test_a_directory_of_another_version_is_refused(tmp_path: Path, version: int) -> None:
    """(R) Version 1 had no voters in its metadata log: nobody would ever lead."""
    meta = tmp_path / "meta.properties"
    os.close(open_it(tmp_path))
    meta.write_text(re.sub(r"(?m)^tailrace.format=.*", f"tailrace.format={version}", meta.read_text()))
    assert "another version of tailrace: name another one" in refused(tmp_path)


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


def open_all(*paths: Path, metadata_dir: Path | None = None) -> tuple[list[str], list[str]]:
    """The cluster ids of those that can be used, and what is said of the others; nothing stays locked."""
    opened, unusable = open_data_dirs(
        [str(path) for path in paths], str(metadata_dir or paths[0]), node_id=0, cluster_id=None, wait_s=0.0
    )
    for data_dir in opened:
        os.close(data_dir.lock_fd)
    return [data_dir.cluster_id for data_dir in opened], [str(error) for error in unusable]


def test_several_directories_are_of_one_cluster_and_have_ids_of_their_own(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    (first, second), unusable = open_all(*paths[:2])
    assert (first, unusable) == (second, [])
    assert open_all(*paths)[0] == [first] * 3
    lines = {line for path in paths for line in (path / "meta.properties").read_text().splitlines()}
    assert len([line for line in lines if line.startswith("directory.id=")]) == 3


def test_directories_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for path in (a, b):
        open_all(path)
        (path / METADATA_LOG).mkdir()
    with pytest.raises(DataDirError, match=f"{b} belongs to cluster"):
        open_all(a, b)
    shutil.rmtree(b)
    shutil.copytree(a, b)
    with pytest.raises(DataDirError, match=r"same directory\.id"):
        open_all(a, b)
    os.close(open_it(a))  # a refusal leaves nothing locked


def test_a_new_directory_does_not_take_the_place_of_the_metadata_log(tmp_path: Path) -> None:
    """(R) All partitions in the others would be strays."""
    a, b, new = tmp_path / "a", tmp_path / "b", tmp_path / "new"
    open_all(a, b)
    with pytest.raises(DataDirError, match=f"{new} is new and {a} is not"):
        open_all(new, a, b)
    assert not (new / "meta.properties").exists()
    (b / METADATA_LOG).mkdir()
    for first in (a, new):
        with pytest.raises(DataDirError, match=f"set metadata.log.dir={b}"):
            open_all(first, b)
    assert len(open_all(new, a, b, metadata_dir=b)[0]) == 3


def test_a_start_that_ended_early_is_done_again(tmp_path: Path) -> None:
    """(R) The directory of the metadata log gets its identity first."""
    a, b = tmp_path / "a", tmp_path / "b"
    open_all(a)
    assert len(open_all(a, b)[0]) == 2


def test_one_that_cannot_be_used_is_done_without_unless_the_metadata_log_is_there(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    b.write_text("no directory")
    ids, (said,) = open_all(a, b)
    assert len(ids) == 1
    assert f"{b} is not a directory" in said
    with pytest.raises(DataDirError, match="is not a directory"):
        open_all(a, b, metadata_dir=b)


def named(tmp_path: Path, *names: str, metadata: str | None = None) -> DataDirs:
    """The directories of a configuration."""
    given = {"log.dirs": ",".join(str(tmp_path / name) for name in names)}
    if metadata is not None:
        given["metadata.log.dir"] = str(tmp_path / metadata)
    return DataDirs(load(given)[0])


def test_metadata_may_have_a_directory_of_its_own(tmp_path: Path) -> None:
    dirs = named(tmp_path, "a", "b", metadata="m")
    shared = dirs.share(str(tmp_path / "table"))
    assert [(Path(found.path).name, found.holds_partitions) for found in shared.dirs] == [
        ("a", True),
        ("b", True),
        ("m", False),
    ]
    assert [Path(found.path).name for found in shared.online()] == ["a", "b"]
    assert shared.metadata_dir == str(tmp_path / "m")
    for opened in dirs.opened:
        os.close(opened.lock_fd)


def test_a_directory_named_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(DataDirError, match="twice"):
        named(tmp_path, "a", "link")


def test_without_any_directory_for_partitions_a_start_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("no directory")
    with pytest.raises(DataDirError, match="is not a directory"):
        named(tmp_path, "a", metadata="m")


def host_dirs(path: Path, **settings: str) -> HostDirs:
    """Those of two brokers, unless the settings say otherwise; let go of at once."""
    given = {"log.dirs": str(path), "brokers": "2", "node.id": "4"}
    given |= {name.replace("_", "."): value for name, value in settings.items()}
    found = HostDirs(load(given)[0])
    for held in (*found.roots, *(opened for dirs in found.brokers for opened in dirs.opened)):
        os.close(held.lock_fd)
    return found


def test_each_of_several_brokers_has_a_directory_and_all_have_one_cluster(tmp_path: Path) -> None:
    first = host_dirs(tmp_path / "d")
    assert first.shown() == [str(tmp_path / "d")]
    assert [dirs.paths for dirs in first.brokers] == [(f"{tmp_path}/d/broker-{number}",) for number in (4, 5)]
    assert {opened.cluster_id for dirs in first.brokers for opened in dirs.opened} == {first.cluster_id}
    assert [opened.node_id for dirs in first.brokers for opened in dirs.opened] == [4, 5]
    assert host_dirs(tmp_path / "d").cluster_id == first.cluster_id


def test_without_the_metadata_log_the_others_are_left_alone(tmp_path: Path) -> None:
    """(R) All that they hold would be taken for strays."""
    host_dirs(tmp_path)
    shutil.rmtree(tmp_path / "broker-4")
    with pytest.raises(DataDirError, match=r"broker-4 is new and .*broker-5 is not: mount the directory"):
        host_dirs(tmp_path)
    assert not (tmp_path / "broker-4").exists()


def test_one_of_three_may_come_with_a_new_disk(tmp_path: Path) -> None:
    """(R) Two may not: there would be no quorum, and what the third has would be taken for strays."""
    host_dirs(tmp_path, brokers="3")
    shutil.rmtree(tmp_path / "broker-4")
    host_dirs(tmp_path, brokers="3")
    shutil.rmtree(tmp_path / "broker-4")
    shutil.rmtree(tmp_path / "broker-5")
    with pytest.raises(DataDirError, match="which 2 of 3 brokers must have"):
        host_dirs(tmp_path, brokers="3")


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("2", "1", "is the data directory of 2 brokers: start it with --brokers 2"),
        ("2", "3", "is the data directory of 2 brokers: start it with --brokers 2"),
        ("1", "3", "is the data directory of one broker: start it without --brokers"),
    ],
)
def test_a_directory_keeps_its_number_of_brokers(tmp_path: Path, first: str, second: str, said: str) -> None:
    host_dirs(tmp_path, brokers=first)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(DataDirError, match=said):
        host_dirs(tmp_path, brokers=second)
    assert sorted(os.listdir(tmp_path)) == before


def test_two_brokers_have_no_directory_in_common(tmp_path: Path) -> None:
    with pytest.raises(DataDirError, match="brokers 4 and 5 cannot both have"):
        host_dirs(tmp_path, broker_5_log_dirs=f"{tmp_path}/broker-4")


def test_a_directory_of_another_cluster_is_refused(tmp_path: Path) -> None:
    host_dirs(tmp_path)
    with pytest.raises(DataDirError, match="belongs to cluster"):
        host_dirs(tmp_path, cluster_id="another")
