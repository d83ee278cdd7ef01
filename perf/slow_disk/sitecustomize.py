"""Imported by Python itself when this folder is in PYTHONPATH: see perf/slow_disk/__init__.py."""

import os
import time
from collections.abc import Callable
from typing import Any

_DELAY_S = float(os.environ.get("PERF_SYNC_DELAY_MS", "0")) / 1000


def _slow(sync: Callable[[Any], None]) -> Callable[[Any], None]:
    def later(file: Any) -> None:
        time.sleep(_DELAY_S)
        sync(file)

    return later


if _DELAY_S:
    for name in ("fsync", "fdatasync"):
        setattr(os, name, _slow(getattr(os, name)))
