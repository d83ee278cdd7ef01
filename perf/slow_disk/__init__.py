"""A disk whose syncs take longer, for Python processes, without a line of it in what is measured.

Python imports a module named sitecustomize when it starts, from PYTHONPATH too: the one beside this file puts
a pause before each fsync and fdatasync, which lets other threads run as the real ones do.
"""

import os
from pathlib import Path

DELAY_MS = "PERF_SYNC_DELAY_MS"


def slowed(delay_ms: float) -> dict[str, str]:
    """The environment for a process, and all its children, whose syncs take so much longer."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent), DELAY_MS: str(delay_ms)}
