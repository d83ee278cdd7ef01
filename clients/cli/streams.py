"""Standard streams that were closed before we began."""

import os
import sys


def open_streams() -> None:
    """Give every closed one of the descriptors 0, 1 and 2 to /dev/null.

    Otherwise the next file to be opened gets its number, and what complains would write into that file (R).
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
            os.set_inheritable(descriptor, True)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
