"""Where a broker's gateway listens: a small file in the run directory that it writes before it says ready.

BOOTSTRAP           host:port at which this machine reaches the first listener
UNIX                path of the Unix socket, empty: none
NAME PORT HOST      a line a listener, in the order of `listeners`; an empty host is every interface
"""

import os
from typing import NamedTuple

from tailrace.core.listeners import Listener


class Addresses(NamedTuple):
    """What one gateway published."""

    bootstrap: str
    unix: str
    listeners: tuple[Listener, ...] = ()  # with the ports that were bound


def publish_addresses(run_dir: str, broker: int, addresses: Addresses) -> None:
    """For the other gateways, the ready line, `status` and `stop`; call it before `ready`."""
    path = _path(run_dir, broker)
    lines = [addresses.bootstrap, addresses.unix]
    lines += [f"{listener.name} {listener.port} {listener.host}" for listener in addresses.listeners]
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))
    os.replace(path + ".new", path)


def read_addresses(run_dir: str, broker: int) -> Addresses:
    """As the broker's last gateway published them; FileNotFoundError: none has yet."""
    with open(_path(run_dir, broker), encoding="utf-8") as file:
        bootstrap, unix, *lines = file.read().splitlines()
    listeners: list[Listener] = []
    for line in lines:
        name, port, host = line.split(" ", 2)
        listeners.append(Listener(name, host, int(port)))
    return Addresses(bootstrap, unix, tuple(listeners))


def _path(run_dir: str, broker: int) -> str:
    return os.path.join(run_dir, f"addresses-{broker}")
