"""What a process of the broker pays at its start."""

import subprocess
import sys

from tests.tidy.sources import sources
from tests.tidy.test_layering import NEVER_IN_A_PROCESS_OF_THE_BROKER

BROUGHT_BY_PACKAGES = {"logging"}  # by setproctitle, 2 ms once before the first fork


def loaded_by(modules: list[str]) -> set[str]:
    """The top-level modules in a fresh interpreter that has imported these."""
    script = (
        "import sys, importlib\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(*sys.modules)"
    )
    command = [sys.executable, "-c", script, *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_broker_loads_nothing_heavy() -> None:
    modules = [source.module for source in sources() if source.layer in ("core", "shm", "workers")]
    assert not loaded_by(modules) & (NEVER_IN_A_PROCESS_OF_THE_BROKER - BROUGHT_BY_PACKAGES)


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_by(["tailrace"]) & {*NEVER_IN_A_PROCESS_OF_THE_BROKER, "msgspec"}
