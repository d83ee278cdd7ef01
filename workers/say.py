"""Lines of the broker's log, which is stderr."""

import sys
from contextlib import suppress


def say(text: str) -> None:
    """Write whole lines. Nothing happens if they cannot be written (R): a log that lies on a full disk, or
    whose reader is gone, ends no process.
    """
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()
