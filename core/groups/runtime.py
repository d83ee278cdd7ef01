"""What a group coordinator is given by its host, and what it says back.

A shard is the coordinator of one partition of __consumer_offsets. It is deterministic: requests, replayed
records, metadata and time come in; answers and writes go out. Durable state changes in one place, `replay`:
a write is appended first, its records are then replayed, and only then is its request answered, so that what
a client was told survives the coordinator.

    host                                      shard
    runtime.now_ms, time_ms = clocks          handle(request): decides
                                              runtime.write(records, then)
    appends the records as one batch
    replays each of them                      replay(key, value)
    then(NONE)                                answers; an append that failed: then(error), nothing replayed
    timers.run_due(now_ms)                    sessions, rebalances and retention end the same way
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from tailrace.core.metadata.image import MetadataImage
from tailrace.core.timers import Timers

Record = tuple[bytes, bytes | None]
"""Key and value of one record of __consumer_offsets; value None: a tombstone."""


class GroupRequest(Struct):
    """One request to a coordinator. `reply` takes the response message, once, now or later."""

    api_key: int
    version: int
    client_id: str
    client_host: str  # as Kafka shows it: "/127.0.0.1"
    message: Any
    reply: Callable[[Any], None]


class GroupConfig(Struct, kw_only=True, frozen=True):
    """The keys of the broker's configuration that coordinators obey, named as they are; times in ms."""

    group_initial_rebalance_delay_ms: int = 0
    group_min_session_timeout_ms: int = 6_000
    group_max_session_timeout_ms: int = 1_800_000
    group_max_size: int = 2**31 - 1
    group_consumer_heartbeat_interval_ms: int = 5_000
    group_consumer_min_heartbeat_interval_ms: int = 5_000
    group_consumer_max_heartbeat_interval_ms: int = 15_000
    group_consumer_session_timeout_ms: int = 45_000
    group_consumer_min_session_timeout_ms: int = 45_000
    group_consumer_max_session_timeout_ms: int = 60_000
    group_consumer_max_size: int = 2**31 - 1
    group_consumer_assignors: tuple[str, ...] = ("uniform", "range")
    group_consumer_migration_policy: str = "bidirectional"
    offset_metadata_max_bytes: int = 4096
    offsets_retention_ms: int = 7 * 24 * 3600 * 1000
    offsets_retention_check_interval_ms: int = 600_000


class Runtime(Protocol):
    """What the host lends to a shard."""

    config: GroupConfig
    image: MetadataImage  # topics and their ids, as of the last commit this broker has seen
    timers: Timers  # run by the host with `now_ms`
    now_ms: int  # a clock that never goes back, set before every call
    time_ms: int  # the time of day, set likewise

    def new_uuid(self) -> str:
        """A random uuid in the text form of RFC 9562, the end of the member ids a coordinator gives out."""
        ...

    def write(self, records: Sequence[Record], then: Callable[[int], None]) -> None:
        """Append the records as one batch, in the order of the calls; see the module. No records: `then` is
        called in its turn.

        `then` may be called before this returns, or later.
        """
        ...
