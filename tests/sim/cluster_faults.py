"""Rules of the whole cluster, each broken on purpose: the simulation has to notice."""

from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest import mock

from tailrace.core.metadata.leadership import LeaderRules
from tailrace.core.metadata.records import Record
from tailrace.workers import failed_dirs, losses, quorum_member, replicas
from tailrace.workers.assignments import Assignments
from tailrace.workers.changes import Changes
from tailrace.workers.orders import Replica
from tailrace.workers.process import ProcessContext
from tailrace.workers.survey import Place, Survey
from tests.sim.cluster_controllers import Metadata
from tests.sim.replication_faults import without_truncation


@contextmanager
def replaced(*changes: tuple[object, str, object]) -> Generator[None]:
    """Attributes are others meanwhile."""
    with ExitStack() as stack:
        for owner, name, value in changes:
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


def tells_before_the_commit() -> AbstractContextManager[None]:
    """A controller that takes for committed what is only staged."""
    return replaced((Metadata, "is_committed", True))


def elects_while_the_old_leader_lives() -> AbstractContextManager[None]:
    """A controller that asks no leader to resign."""

    def nobody(_self: Changes, _keys: Iterable[object]) -> list[Replica]:
        return []

    return replaced((Changes, "_alive", nobody))


def obeys_old_orders() -> AbstractContextManager[None]:
    """A worker that obeys any controller, and takes every order for news."""

    def always(_self: ProcessContext, _slot: int) -> bool:
        return True

    def never(*_orders: object) -> bool:
        return False

    return replaced((ProcessContext, "obeys", always), (replicas, "_is_older", never))


def leads_twice_in_an_epoch() -> AbstractContextManager[None]:
    """A controller that has a successor lead in the epoch that a dead process led in."""

    def nothing(*_: object) -> list[Record]:
        return []

    return replaced((Replica, "is_spent", False), (losses, "replicas_died", nothing))


def forgets_rows_of_the_gone() -> AbstractContextManager[None]:
    """A new leader is not told of the row of one that left the partition."""

    def nothing(*_: object) -> None: ...

    return replaced((Assignments, "keep_rows", nothing))


def starts_at_its_own_high_watermark() -> AbstractContextManager[None]:
    """A new leader does not look at the rows of others."""

    def own(_rows: object, *, own_high_watermark: int, log_end_offset: int, **_: int) -> int:
        return min(own_high_watermark, log_end_offset)

    return replaced((replicas, "starting_high_watermark", own))


def opens_the_metadata_log_where_it_was_lost() -> AbstractContextManager[None]:
    """A controller that does not look whether the directory is still the one it voted by."""
    return replaced((quorum_member, "probe_own", failed_dirs.check_own))


def makes_lost_logs_anew() -> AbstractContextManager[None]:
    """A host that takes a directory that serves for the one that a replica was in."""

    def anywhere(self: Survey, *partition: Any) -> Place:
        found = place(self, *partition)
        first = self._log_dirs.online()[0]  # pyright: ignore[reportPrivateUsage]
        return found if found.path else Place(first.path, first.directory_id)

    place = Survey.place
    return replaced((Survey, "place", anywhere))


def elects_while_a_failed_leader_may_append() -> AbstractContextManager[None]:
    """A controller that takes a leader for gone as soon as its log directory is."""

    def rules(self: Changes) -> LeaderRules:
        offline = self._assignments.offline  # pyright: ignore[reportPrivateUsage]
        return LeaderRules(unusable=frozenset(offline))

    return replaced((Changes, "rules", rules))


def does_not_wait_for_deletions() -> AbstractContextManager[None]:
    """A controller that has a replica made while its directory is another's, which is to be deleted."""

    def at_once(self: Assignments, *names: Any, **rest: Any) -> Replica:
        replica = place(self, *names, **rest)
        self._held_back.pop(replica.name, None)  # pyright: ignore[reportPrivateUsage]
        return replica

    place = Assignments.place
    return replaced((Assignments, "place", at_once))


def keeps_what_has_moved_away() -> AbstractContextManager[None]:
    """A controller that leaves a replica lying whose partition is elsewhere by now."""

    def nothing(*_: object) -> None: ...

    return replaced((Survey, "_set_aside", nothing))


Fault = Callable[[], AbstractContextManager[None]]
FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        tells_before_the_commit,
        elects_while_the_old_leader_lives,
        obeys_old_orders,
        leads_twice_in_an_epoch,
        forgets_rows_of_the_gone,
        starts_at_its_own_high_watermark,
        without_truncation,
        opens_the_metadata_log_where_it_was_lost,
        makes_lost_logs_anew,
        elects_while_a_failed_leader_may_append,
        does_not_wait_for_deletions,
        keeps_what_has_moved_away,
    )
}
