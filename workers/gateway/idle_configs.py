"""One line in the broker's log about topic configs that are stored and that nothing obeys yet."""

import select
import sys
from collections.abc import Mapping
from contextlib import suppress

from tailrace.core.config import without_effect

SHOWN_MAX = 80  # characters of a config's value


def warn_of_idle(topic: str, configs: Mapping[str, str]) -> None:
    """Name those of these valid configs that ask for what nothing does, if any do."""
    idle = without_effect(configs)
    if not idle:
        return
    shown = ", ".join(text[:SHOWN_MAX] for text in idle)
    line = f"tailrace: warning: topic {topic}: no effect yet: {shown} (LIMITS.md)\n"
    # Clients cause this line, so it waits for no reader and fails with none (R).
    with suppress(OSError):
        if sys.stderr is not None and _takes_more(sys.stderr.fileno()):
            sys.stderr.write(line)
            sys.stderr.flush()


def _takes_more(descriptor: int) -> bool:
    """Of any number: a gateway has thousands of sockets, and select() knows 1,024 descriptors."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(events & select.POLLOUT for _, events in poll.poll(0))
