"""Where partitions are found, and where they are not made anew."""

import errno
import os
from pathlib import Path

import pytest

from tailrace.core.ids import uuid_text
from tailrace.core.metadata.image import MetadataImage, TopicImage
from tailrace.core.metadata.records import PartitionRecord, TopicRecord
from tailrace.shm.log_dir_table import LogDirTable
from tailrace.workers.data_dir import LOCK
from tailrace.workers.future_files import Moved, write_mark
from tailrace.workers.log_dirs import LogDir, LogDirs
from tailrace.workers.process import Refusal
from tailrace.workers.survey import Place, Survey

TOPIC_ID, OTHER_ID = bytes(15) + b"\x01", bytes(15) + b"\x02"


class World:
    """Two directories, a and b, and one topic with one partition, recorded in one of them or in none."""

    def __init__(self, path: Path) -> None:
        made: list[LogDir] = []
        for name in ("a", "b"):
            (path / name).mkdir()
            lock_fd = os.open(path / name / LOCK, os.O_RDWR | os.O_CREAT)
            made.append(LogDir(str(path / name), f"id-{name}", lock_fd))
        self.path, self.broker = path, 0
        self.held: list[tuple[bytes, int]] = []
        self.dirs = LogDirs(made, made[0].path, LogDirTable.create(str(path / "table"), 2))

    def put(self, name: str, topic_id: bytes | None = TOPIC_ID) -> None:
        """The partition's files are there, and perhaps say whose they are."""
        (self.path / name / "t-0").mkdir()
        if topic_id is not None:
            text = f"version: 0\ntopic_id: {uuid_text(topic_id)}"
            (self.path / name / "t-0" / "partition.metadata").write_text(text)

    def place(self, recorded: str, *, first_of_run: bool = True) -> Place:
        """What the controller decides."""
        image = MetadataImage()
        image.replay([TopicRecord(name="t", topic_id=TOPIC_ID), partition(recorded)], 2)
        topic: TopicImage = image.topics_by_name["t"]
        self.survey = Survey(self.dirs, image, self.broker, self.held, first_of_run=first_of_run)
        return self.survey.place(topic, topic.partitions[0])

    def where(self, name: str) -> Place:
        """That directory."""
        return Place(str(self.path / name), f"id-{name}")


def partition(recorded: str) -> PartitionRecord:
    """As the metadata log has it; old records name no directory."""
    return PartitionRecord(
        topic_id=TOPIC_ID, partition=0, replicas=(0,), isr=(0,), leader=0, leader_epoch=0, partition_epoch=0,
        directories=(recorded,) if recorded else (),
    )  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Nothing has failed yet."""
    return World(tmp_path)


@pytest.mark.parametrize("recorded", ["", "id-a", "id-b", "id-unknown"])
def test_a_partition_is_where_the_disk_has_it(world: World, recorded: str) -> None:
    world.put("b")
    assert world.place(recorded) == world.where("b")


def test_one_that_was_never_made_belongs_where_it_is_recorded(world: World) -> None:
    assert world.place("id-b") == world.where("b")
    assert world.place("") == world.where("a")


def test_one_that_does_not_say_whose_it_is_counts_where_it_is_recorded(world: World) -> None:
    """A crash came before it was written."""
    world.put("a", None)
    assert world.place("id-a") == world.where("a")
    assert world.place("id-b") == world.where("b")


def test_one_in_two_places_is_refused(world: World) -> None:
    world.put("a")
    world.put("b")
    for recorded in ("", "id-unknown"):
        with pytest.raises(Refusal, match=r"t-0 lies in .*a and in .*b"):
            world.place(recorded)


def test_of_two_places_the_recorded_one_counts(world: World) -> None:
    """(R) Its directory failed, it was moved away and back to another; the first is mended, and old."""
    world.put("a")
    world.put("b")
    assert world.place("id-b") == world.where("b")
    (stray,) = world.survey.strays
    assert (world.path / "a" / stray / "partition.metadata").exists()
    assert world.place("id-b") == world.where("b")


def test_a_namesake_of_another_topic_is_set_aside(world: World) -> None:
    world.put("a", OTHER_ID)
    world.put("b")
    assert world.place("id-a") == world.where("b")
    (stray,) = world.survey.strays
    assert (world.path / "a" / stray / "partition.metadata").exists()


@pytest.mark.parametrize("first_of_run", [True, False])
def test_one_that_has_moved_to_other_brokers_is_set_aside(world: World, *, first_of_run: bool) -> None:
    """(R) Who was told to delete it died before that, and so did who knew: a topic made under that name later
    would find records of another.
    """
    world.put("a")
    world.broker, world.held = 1, [(TOPIC_ID, 0)]
    world.place("id-a", first_of_run=first_of_run)
    assert not world.survey.strays  # its worker lives, and is told to delete it
    world.held = []
    world.place("id-a", first_of_run=first_of_run)
    (stray,) = world.survey.strays
    assert (world.path / "a" / stray / "partition.metadata").exists()


@pytest.mark.parametrize("recorded", ["", "id-b", "id-unknown"])
def test_nothing_is_made_anew_for_what_may_lie_on_a_disk_that_is_away(world: World, recorded: str) -> None:
    """(R) An empty log would take the place of what was acknowledged."""
    world.dirs.fail(str(world.path / "b"), errno.EIO)
    assert world.place(recorded) == Place("", recorded)
    world.put("b")
    assert world.place(recorded) == Place("", recorded)


def test_a_partition_is_found_though_another_disk_is_away(world: World) -> None:
    world.dirs.fail(str(world.path / "b"), errno.EIO)
    world.put("a")
    assert world.place("") == world.where("a")


def test_a_disk_that_fails_while_it_is_looked_at_is_away(world: World) -> None:
    world.put("b")
    os.rename(world.path / "b", world.path / "away")
    assert world.place("id-b") == Place("", "id-b")
    assert not world.dirs.is_online(str(world.path / "b"))


def test_later_controllers_of_a_run_go_by_the_record(world: World) -> None:
    world.put("b")
    assert world.place("id-a", first_of_run=False) == world.where("a")
    world.dirs.fail(str(world.path / "a"), errno.EIO)
    assert world.place("id-a", first_of_run=False) == Place("", "id-a")


def test_an_empty_directory_of_no_topic_goes_with_a_start(tmp_path: Path) -> None:
    """A process that deleted a topic died before it removed it. Later a worker may be making one."""
    world = World(tmp_path)
    world.put("a")
    left, full = tmp_path / "a" / "gone-0", tmp_path / "a" / "gone-1"
    for folder in (left, full):
        folder.mkdir()
    (full / "00000000000000000000.log").touch()
    world.place("id-a", first_of_run=False)
    assert left.exists()
    world.place("id-a")
    assert not left.exists()
    assert full.exists()


@pytest.mark.parametrize("is_complete", [True, False])
def test_the_copy_of_a_log_whose_topic_is_gone(world: World, *, is_complete: bool) -> None:
    """Where it has everything it is set aside like a log; else it goes."""
    path = world.path / "b" / f"t-0.{bytes(16).hex()}-future"
    path.mkdir()
    (path / "partition.metadata").write_text(f"version: 0\ntopic_id: {uuid_text(OTHER_ID)}")
    if is_complete:
        write_mark(str(path), Moved(source="id-a"))
    world.put("a")
    assert world.place("id-a") == world.where("a")
    assert not path.exists()
    left = [name for name in os.listdir(world.path / "b") if name.startswith("t-0")]
    assert left == world.survey.strays
    assert len(left) == is_complete
