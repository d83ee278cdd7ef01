"""The controller that several files ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.shared import close_shared
from tests.unit.workers.controller_run import Run


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A controller and its peers."""
    made = Run(tmp_path)
    try:
        yield made
    finally:
        made.log.close()
        made.run_dir.remove()
        close_shared(made.shared)
