"""The log directories of a broker: which of them are out of service.

    word   field       stored by    meaning
       0   dir_count   creator
       8   dirs, 8 words (one cache line) each:
       0   failure     anyone       errno of what took it out of service, 0: in service
       1   told        controller   1: the broker's log has a line about it

A directory that failed stays out of service until the broker is started again: its word is stored once, by
whoever meets the error first (of two at the same instant one errno stays), and never taken back (R). The
order is that of the run's list of directories, which every process inherits.
"""

from typing import Final

from tailrace.shm.region import Region, ShmError

KIND: Final = "log-dirs"
VERSION: Final = 1

_HEADER_WORDS: Final = 8
_DIR_WORDS: Final = 8
_FAILURE: Final = 0
_TOLD: Final = 1


def log_dirs_name(broker: int) -> str:
    """File name of a broker's table; brokers are counted from 0."""
    return f"log-dirs-{broker}"


class LogDirTable:
    """A line a directory."""

    __slots__ = ("count", "region", "words")

    def __init__(self, region: Region) -> None:
        self.region = region
        self.words = region.words
        self.count = region.words[0]
        if not 0 < self.count <= (region.size // 8 - _HEADER_WORDS) // _DIR_WORDS:
            raise ShmError(f"{region.path} is shorter than its count of directories says")

    @classmethod
    def create(cls, path: str, count: int) -> "LogDirTable":
        """A table in which all are in service."""
        size = (_HEADER_WORDS + count * _DIR_WORDS) * 8
        region = Region.create(path, size, kind=KIND, version=VERSION)
        region.words[0] = count
        return cls(region)

    @classmethod
    def attach(cls, path: str) -> "LogDirTable":
        """The table that another process made."""
        return cls(Region.attach(path, KIND, VERSION))

    def failure(self, index: int) -> int:
        """The errno of what took it out of service, 0 while it serves."""
        return self.words[_HEADER_WORDS + index * _DIR_WORDS + _FAILURE]

    def fail(self, index: int, number: int) -> None:
        """It is out of service from now on; the first reason stays."""
        assert number > 0, "an errno"
        if not self.failure(index):
            self.words[_HEADER_WORDS + index * _DIR_WORDS + _FAILURE] = number

    def is_told(self, index: int) -> bool:
        """Whether the broker's log says so already."""
        return bool(self.words[_HEADER_WORDS + index * _DIR_WORDS + _TOLD])

    def set_told(self, index: int) -> None:
        """The broker's log says so."""
        self.words[_HEADER_WORDS + index * _DIR_WORDS + _TOLD] = 1
