"""How patient a member of the quorum is. Times in ms; the defaults suit one host with a slow disk."""

from msgspec import Struct

from tailrace.core.raft.voters import ReplicaKey


class RaftSettings(Struct, frozen=True, kw_only=True):
    """`seed` makes its election timeouts differ from those of others; `wall_offset_ms` added to now_ms gives
    the time of the wall clock, for records.
    """

    key: ReplicaKey
    seed: int = 0
    wall_offset_ms: int = 0
    election_timeout_ms: int = 200  # controller.quorum.election.timeout.ms; up to twice that
    fetch_timeout_ms: int = (
        1000  # controller.quorum.fetch.timeout.ms: without a leader so long, ask for votes
    )
    request_timeout_ms: int = 600  # without an answer so long, ask again: messages may be lost
    fetch_wait_ms: int = 300  # how long a leader holds a fetch that has nothing to get; below the two above
    retry_ms: int = 20  # between two fetches that are refused
    # when a leader is known to be gone, or after a start, between one successor and the next: longer than the
    # first needs to be heard, its vote being synced, or both ask, and neither is elected
    successor_delay_ms: int = 100
    fetch_bytes_max: int = 8 * 1024 * 1024
    snapshot_piece_bytes: int = 256 * 1024
    bootstrap: tuple[int, ...] = ()  # whom to ask who leads, while it knows of no voters

    @property
    def check_quorum_ms(self) -> int:
        """A leader that no majority has fetched from for so long resigns; as Kafka, half as long again."""
        return self.fetch_timeout_ms * 3 // 2


class Jitter:
    """Numbers that look random, the same for the same seed: core has no chance of its own."""

    def __init__(self, seed: int) -> None:
        self._state = seed & 0xFFFF_FFFF_FFFF_FFFF

    def below(self, limit: int) -> int:
        """A number from 0 to limit - 1."""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) & 0xFFFF_FFFF_FFFF_FFFF
        return (self._state >> 33) % max(limit, 1)
