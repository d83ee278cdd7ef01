"""Several members of one group, polled at the same time."""

from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.compat.members.member import CommitFailedError, Library, Member, Message, Place, RevokedError, Wish
from tests.support.waiting import wait_until

TURN_S = 0.05  # one member's share of a round


class Crew:
    """The members of one group that a test has opened; what they read, and only once it is committed."""

    def __init__(self, library: Library, wish: Wish) -> None:
        self.library, self.wish = library, wish
        self.members: list[Member] = []
        self.read: list[Message] = []
        self.doubtful: list[Message] = []  # their commit failed, or only its answer
        self._threads = ThreadPoolExecutor()  # kafka-python joins inside poll(): together or never

    def join(self, instance: str | None = None) -> Member:
        """One more member."""
        member = self.library.join(self.wish._replace(instance=instance))
        self.members.append(member)
        return member

    def leave(self, member: Member) -> None:
        """Close one."""
        self.members.remove(member)
        member.close()

    def close(self) -> None:
        """Close all."""
        while self.members:
            self.members.pop().close()
        self._threads.shutdown()

    def round(self) -> None:
        """Poll each once; what a member read counts when its commit is taken, or it reads it again."""
        polled = list(self._threads.map(_poll, self.members))
        for member, messages in zip(self.members, polled, strict=True):
            if not messages:
                continue
            try:
                member.commit()
            except RevokedError:
                continue
            except CommitFailedError:
                self._go_back(member, messages)
            else:
                self.read += messages

    def _go_back(self, member: Member, messages: list[Message]) -> None:
        self.doubtful += messages
        first: dict[Place, int] = {}
        for message in messages:
            first.setdefault(message.place, message.offset)
        owned = member.assignment()
        for place, offset in first.items():
            if place in owned:
                member.seek(place, offset)

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Rounds until the condition holds."""

        def look() -> bool:
            self.round()
            return bool(condition())

        wait_until(look, what)

    def settle(self, partitions: int) -> None:
        """Until each partition has one owner and nobody has more than one partition more than another."""
        places = {Place(topic, index) for topic in self.wish.topics for index in range(partitions)}

        def settled() -> bool:
            owned = [member.assignment() for member in self.members]
            sizes = [len(one) for one in owned]
            shared = Counter(place for one in owned for place in one)
            return shared == dict.fromkeys(places, 1) and max(sizes) - min(sizes) <= 1

        self.until(settled, f"{len(self.members)} members with an equal share of {len(places)} partitions")


def _poll(member: Member) -> list[Message]:
    return member.poll(TURN_S)


@contextmanager
def crew(library: Library, wish: Wish) -> Generator[Crew, None, None]:
    """A crew that is closed at the end."""
    made = Crew(library, wish)
    try:
        yield made
    finally:
        made.close()
