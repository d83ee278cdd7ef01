"""Where the log of each partition lies: what the log directories hold, beside what the metadata say.

As Kafka does it: at the start of a run the disk is believed, because whoever moved a partition's directory
while the broker was stopped meant it; one that lies in two places is where the metadata say, or is refused. A
partition that is not found is made anew only in the directory that is known to be its own, and only if that
serves (R): an empty log must not take the place of acknowledged records on a disk that is not there today.

Moves between directories (workers/future_files.py) that the last run did not end begin anew where the old log
is still there; what was to be removed after one is.
"""

import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from typing import NamedTuple

from tailrace.core.ids import uuid_text
from tailrace.core.metadata.image import MetadataImage, PartitionImage, TopicImage
from tailrace.workers.data_dir import METADATA_LOG
from tailrace.workers.future_files import DELETED, parse_name, read_mark, remove
from tailrace.workers.log_dirs import LogDir, LogDirs
from tailrace.workers.process import Refusal
from tailrace.workers.say import say

PARTITION_METADATA = "partition.metadata"
STRAY_SUFFIX = "-stray"
Key = tuple[bytes, int]
"""Topic id and partition."""


class Place(NamedTuple):
    """A replica's log directory; the path is empty while it is out of service."""

    path: str
    directory_id: str


class Survey:
    """What a broker's directories that serve hold, read once; what is none of its replicas is set aside."""

    def __init__(
        self,
        log_dirs: LogDirs,
        image: MetadataImage,
        broker_id: int,
        held: Iterable[Key],
        *,
        first_of_run: bool,
    ) -> None:
        """`held`: what workers of this broker have; it may be gone from the image."""
        self._log_dirs = log_dirs
        self._broker_id = broker_id
        self._first_of_run = first_of_run
        own = [
            (topic.topic_id, state.partition) for topic, state in image.walk() if broker_id in state.replicas
        ]
        self._known = {(uuid_text(topic_id), partition) for topic_id, partition in (*own, *held)}
        self._topics = image.topics_by_name.keys()
        self._found: dict[str, list[tuple[LogDir, str | None]]] = {}
        self._futures: dict[str, list[tuple[str, str | None]]] = {}  # paths, and whose, by the log's name
        self.strays: list[str] = []
        for log_dir in log_dirs.online():
            with self._blaming(log_dir):
                self._look_into(log_dir)

    @contextmanager
    def _blaming(self, log_dir: LogDir) -> Generator[None]:
        """An error of a disk takes its directory out of service."""
        try:
            yield
        except OSError as error:
            if not self._log_dirs.blame(log_dir.path, error):
                raise

    def place(self, topic: TopicImage, partition: PartitionImage) -> Place:
        """Where the broker serves its replica. Refusal if it lies in two directories."""
        directory = partition.directory_of(self._broker_id)
        recorded = self._log_dirs.by_id(directory)
        if self._first_of_run:
            name = f"{topic.name}-{partition.partition}"
            found = self._matches(name, topic.topic_id, directory)
            if len(found) > 1:
                found = [self._choose(name, found, directory)]
            if found:
                return Place(found[0].path, found[0].directory_id)
            if not directory and self._all_serve():  # a topic made before directories had ids
                first = self._log_dirs.online()[0]
                return Place(first.path, first.directory_id)
        if recorded is not None and self._log_dirs.is_online(recorded.path):
            return Place(recorded.path, recorded.directory_id)
        return Place("", directory)

    def moving_to(self, name: str, topic_id: bytes) -> str:
        """The directory with a copy of this log that was to take its place; empty: there is none."""
        text = uuid_text(topic_id)
        return next((path for path, says in self._futures.get(name, ()) if says == text), "")

    def _choose(self, name: str, found: list[LogDir], recorded: str) -> LogDir:
        """The one that the metadata name. A replica that left a directory which did not serve, and came back
        to another, lies in both once the first is mended: (R) what it left lacks all that was written since.
        """
        own = next((log_dir for log_dir in found if log_dir.directory_id == recorded), None)
        if own is None:
            raise Refusal(
                f"{name} lies in {found[0].path} and in {found[1].path}: move one of them out of log.dirs"
            )
        for log_dir in found:
            if log_dir is not own:
                say(f"tailrace: {name} lies in {own.path}; what lies in {log_dir.path} is set aside\n")
                with self._blaming(log_dir):
                    self._set_aside(log_dir.path, name)
        return own

    def _all_serve(self) -> bool:
        return all(
            self._log_dirs.is_online(log_dir.path)
            for log_dir in self._log_dirs.dirs
            if log_dir.holds_partitions
        )

    def _matches(self, name: str, topic_id: bytes, recorded: str) -> list[LogDir]:
        """The directories with a log of this topic; one that does not say whose it is, is that of the record
        if it lies there.
        """
        text = uuid_text(topic_id)
        return [
            log_dir
            for log_dir, says in self._found.get(name, ())
            if self._log_dirs.is_online(log_dir.path)
            and (says == text or (says is None and recorded in ("", log_dir.directory_id)))
        ]

    def _look_into(self, log_dir: LogDir) -> None:
        with os.scandir(log_dir.path) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        for name in names:
            if self._first_of_run and (moving := parse_name(name)) is not None:
                self._look_at_move(log_dir, name, *moving)
            topic, _, index = name.rpartition("-")
            if name == METADATA_LOG or not index.isdecimal():
                continue
            topic_id = _topic_id_in(os.path.join(log_dir.path, name))
            if topic_id is None and topic not in self._topics and self._first_of_run:
                with suppress(OSError):  # it is not empty
                    os.rmdir(os.path.join(log_dir.path, name))  # who deleted it died before that
                    continue
            if topic_id is None or (topic_id, int(index)) in self._known:
                self._found.setdefault(name, []).append((log_dir, topic_id))
            else:
                self._set_aside(log_dir.path, name)

    def _look_at_move(self, log_dir: LogDir, name: str, log_name: str, kind: str) -> None:
        path = os.path.join(log_dir.path, name)
        topic_id = _topic_id_in(path)
        is_known = topic_id is not None and (topic_id, int(log_name.rpartition("-")[2])) in self._known
        if kind == DELETED or (not is_known and read_mark(path) is None):
            with suppress(OSError):  # at the next start
                remove(path)
        elif not is_known:  # it is complete, and may be the only log of a topic that is gone
            self._set_aside(log_dir.path, name)
        else:
            self._futures.setdefault(log_name, []).append((log_dir.path, topic_id))

    def _set_aside(self, path: str, name: str) -> None:
        """Rename the directory of a partition whose topic is gone, or that has moved to other brokers, as
        Kafka does. (R) Or it is in the way of a topic that is made under that name.

        A crash between the commit of a removal and the worker's deletion leaves such a directory, and so does
        a removal while its log directory is out of service. Its files are not deleted: were the metadata log
        lost, they would be all that is left.
        """
        aside = f"{name[:200]}.{os.urandom(4).hex()}{STRAY_SUFFIX}"
        os.rename(os.path.join(path, name), os.path.join(path, aside))
        self.strays.append(aside)


def _topic_id_in(directory: str) -> str | None:
    """The topic id in a partition directory's partition.metadata, in text form; None when it does not say."""
    try:
        with open(os.path.join(directory, PARTITION_METADATA), encoding="utf-8", errors="replace") as file:
            lines = file.read(4096).splitlines()
    except FileNotFoundError:
        return None
    return next((line[len("topic_id: ") :] for line in lines if line.startswith("topic_id: ")), None)
