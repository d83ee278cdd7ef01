"""What the coordinator asks of a group, of whichever protocol."""

from typing import Protocol

from tailrace.core.groups.runtime import Record
from tailrace.core.protocol.messages.list_groups import ListGroupsResponseGroup


class Group(Protocol):
    """A classic group or one of KIP-848."""

    group_id: str

    @property
    def state(self) -> str:
        """As Kafka shows it."""
        ...

    @property
    def protocol_type(self) -> str | None:
        """ "consumer" for consumers; None: no member ever joined."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether nothing would be lost by forgetting it: it has no member and no record."""
        ...

    def subscribed_topics(self) -> set[str] | None:
        """The topics that its members read; None: nobody can tell."""
        ...

    def commit_error(self, member_id: str, group_instance_id: str | None, generation: int) -> int:
        """Whether this member may commit offsets; NONE or the code."""
        ...

    def can_delete(self) -> int:
        """NONE, or why it may not be deleted."""
        ...

    def tombstones(self) -> list[Record]:
        """What makes the log forget the group."""
        ...

    def listed(self) -> ListGroupsResponseGroup:
        """Its line in ListGroups."""
        ...

    def on_loaded(self) -> None:
        """All records were replayed: time begins."""
        ...
