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
        if sys.stderr is not None and select.select([], [sys.stderr], [], 0)[1]:
            sys.stderr.write(line)
            sys.stderr.flush()
