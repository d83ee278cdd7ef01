"""How commands fail: one line on stderr and an exit code that scripts can tell apart."""

import sys
from typing import NoReturn

FAILED = 1
USAGE = 2
UNREACHABLE = 3
NOT_FOUND = 5
INTERRUPTED = 130


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Say why, on one line, and end."""
    say(message)
    raise SystemExit(code)


def say(message: str) -> None:
    """One line on stderr."""
    sys.stderr.write("tailrace: " + " ".join(message.split()) + "\n")
    sys.stderr.flush()
