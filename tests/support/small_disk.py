"""A small file system of its own for a test: a tmpfs, which only root may mount."""

import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

MEBIBYTE = 1024 * 1024


class SmallDisk:
    """Files of others on it are called ballast."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def free(self) -> int:
        """Bytes that are left."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Somebody else takes all of it, but `leave` bytes."""
        with self._ballast.open("ab") as file:
            more = self.free() - leave
            if more > 0:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, more)

    def clear(self) -> None:
        """And gives it back."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(path: Path, size: int) -> Generator[SmallDisk]:
    """A tmpfs of `size` bytes on `path`, gone afterwards; the test is skipped where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount the tmpfs that this test fills")
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs to fill: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
