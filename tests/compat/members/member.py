"""What the tests of groups ask of a consumer that subscribes."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

PATIENCE_S = 30.0


class Place(NamedTuple):
    """A partition."""

    topic: str
    partition: int


class Message(NamedTuple):
    """A record that a member was given."""

    place: Place
    offset: int
    value: str


class Wish(NamedTuple):
    """How a member is to be made; what a test does not name is the library's default."""

    bootstrap: str
    group: str
    topics: tuple[str, ...]
    strategy: str = (
        "range"  # range, roundrobin, cooperative-sticky; consumer: assigned by the broker (KIP-848)
    )
    instance: str | None = None
    reset: str = "earliest"
    auto_commit: bool = False


class CommitFailedError(Exception):
    """The broker did not take a commit; whoever owns the partition now reads the records again."""


class RevokedError(CommitFailedError):
    """What was read is no longer the member's to commit; where it goes on is what the group has stored."""


class Member(Protocol):
    """One consumer of a group."""

    def poll(self, seconds: float) -> list[Message]:
        """What is there within the time; also the member's heart beats and its callbacks run in here."""
        ...

    def assignment(self) -> set[Place]:
        """The partitions it owns."""
        ...

    def revoked(self) -> list[Place]:
        """Everything ever taken from it."""
        ...

    def commit(self) -> None:
        """Commit the positions and wait for the answer.

        Raises:
            CommitFailedError: the broker said no.
        """
        ...

    def commit_later(self) -> None:
        """Commit the positions without waiting."""
        ...

    def commits_done(self) -> list[str | None]:
        """How each commit_later() ended so far: None is well."""
        ...

    def commit_at(self, place: Place, offset: int, metadata: str) -> None:
        """Commit one offset with metadata, and wait."""
        ...

    def committed(self, place: Place) -> int | None:
        """What the group has stored."""
        ...

    def seek(self, place: Place, offset: int) -> None:
        """Go on reading there."""
        ...

    def pause(self, places: Iterable[Place]) -> None:
        """Read no more of them."""
        ...

    def resume(self, places: Iterable[Place]) -> None:
        """Read on."""
        ...

    def close(self) -> None:
        """Leave the group, unless static, and hang up."""
        ...


class Library(Protocol):
    """A client library: makes members."""

    name: str
    strategies: tuple[str, ...]

    def missing(self) -> str | None:
        """Why it cannot run on this machine, None when it can."""
        ...

    def join(self, wish: Wish) -> Member:
        """A consumer that has subscribed; it is in the group after some polls."""
        ...
