"""How many clients may be connected, how many from one address, and how fast new ones may come.

The rules are Kafka's: who comes while there is no room, or too fast, waits to be accepted; who comes from an
address with too many connections is closed. A rate allows for BURST_S seconds' worth at once. Clients of the
Unix socket have no address, and are counted like all others.
"""

import re
from collections.abc import Mapping
from typing import Final

from tailrace.core.config_keys import ConfigError

PER_ADDRESS, OVERRIDES = "max.connections.per.ip", "max.connections.per.ip.overrides"
BURST_S: Final = 10
DELAY_MS_MAX: Final = 1000  # as Kafka: a rate delays one client no longer, whatever it says
UNTIL_ONE_GOES: Final = -1
RATE_MAX: Final = 2**31 - 1  # the default: no bound
_HOST = re.compile(r"[0-9a-zA-Z\-%._:]*")


class ConnectionQuotas:
    """The connections of one broker: counted, and bounded by `set_limits`."""

    def __init__(self) -> None:
        self.count = 0
        self._count_of: dict[str, int] = {}  # by address, of those that are connected
        self._max = self._max_per_address = 0
        self._overrides: Mapping[str, int] = {}
        self._per_second = RATE_MAX
        self._even_ms = 0.0  # when as many came as the rate allows

    def set_limits(
        self, connections_max: int, per_address_max: int, overrides: Mapping[str, int], per_second: int
    ) -> None:
        """From now on; `overrides`: of single addresses. Who is connected stays counted."""
        self._max, self._max_per_address, self._overrides = connections_max, per_address_max, overrides
        if per_second != self._per_second:
            self._per_second = per_second
            self._even_ms = 0.0

    def delay_ms(self, now_ms: int) -> int:
        """How long the next client waits: 0 comes in, UNTIL_ONE_GOES while there is no room."""
        if self.count >= self._max:
            return UNTIL_ONE_GOES
        if self._per_second >= RATE_MAX or self._even_ms <= now_ms:
            return 0
        return min(DELAY_MS_MAX, int(self._even_ms - now_ms) + 1)

    def enter(self, address: str | None, now_ms: int) -> bool:
        """Count one that was accepted. False: too many come from its address, it is to be closed and is not
        counted; it came all the same, as far as the rate goes.
        """
        if self._per_second < RATE_MAX:
            earliest = now_ms - 1000 * BURST_S
            self._even_ms = max(self._even_ms, earliest) + 1000 / max(1, self._per_second)
        if address is not None:
            count = self._count_of.get(address, 0)
            if count >= self._overrides.get(address, self._max_per_address):
                return False
            self._count_of[address] = count + 1
        self.count += 1
        return True

    def leave(self, address: str | None) -> None:
        """One that was counted has gone."""
        self.count -= 1
        if address is not None:
            left = self._count_of[address] - 1
            if left:
                self._count_of[address] = left
            else:
                del self._count_of[address]

    @property
    def excess(self) -> int:
        """How many have to go since the bound was lowered; negative: how many may come."""
        return self.count - self._max


def parse_overrides(text: str) -> dict[str, int]:
    """HOST:COUNT,HOST:COUNT as a table, hosts as they are written; ConfigError in Kafka's words."""
    counts: dict[str, int] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        host, colon, count = (part.strip() for part in entry.rpartition(":"))
        if not colon:
            raise ConfigError(
                f"Error parsing configuration property '{OVERRIDES}': {entry[:80]!r} is not HOST:COUNT"
            )
        if not re.fullmatch("[+-]?[0-9]{1,10}", count):
            raise ConfigError(f'For input string: "{count[:80]}" ({OVERRIDES})')
        if not _HOST.fullmatch(host):
            raise ConfigError(f"{OVERRIDES} contains invalid addresses : {host[:80]}")
        counts[host] = int(count)
    return counts


def check_none_locked_out(per_address_max: int, overrides: Mapping[str, int]) -> None:
    """ConfigError for bounds under which no client at all could come by TCP."""
    if per_address_max == 0 and not overrides:
        raise ConfigError(
            f"requirement failed: {PER_ADDRESS} can be set to zero only if {OVERRIDES} property is set."
        )
