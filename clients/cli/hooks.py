"""What the command line needs of a running broker's side, handed in by tailrace/__main__.py.

Clients meet workers on the wire alone, so `start`, `stop`, `status`, `broker`, `doctor` and `log` get their
door to the processes from outside.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from tailrace.core.config import BrokerConfig


class Hooks(NamedTuple):
    """Doors to the processes of this machine."""

    run_broker: Callable[[BrokerConfig], int]  # be a broker; the exit status
    read_pid: Callable[[str], int | None]  # supervisor of the broker that holds a data directory
    read_status: Callable[[str], dict[str, Any] | None]  # all of its processes
    # what to do, broker id, seconds to wait: all brokers of the host that has a directory, as JSON has them;
    # None when none runs there
    ask_supervisor: Callable[[str, str, int, float], list[dict[str, Any]] | None]
