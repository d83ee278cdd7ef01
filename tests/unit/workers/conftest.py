"""The controller that several files ask."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.workers.controller_run import Run


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A controller and its peers."""
    made = Run(tmp_path)
    try:
        yield made
    finally:
        made.run_dir.remove()
        for eventfd in made.shared.eventfds:
            os.close(eventfd)
