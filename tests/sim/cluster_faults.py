"""Rules of the whole cluster, each broken on purpose: the simulation has to notice."""

from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, ExitStack, contextmanager
from unittest import mock

from tailrace.core.metadata.records import Record
from tailrace.workers import losses, replicas
from tailrace.workers.assignments import Assignments
from tailrace.workers.changes import Changes
from tailrace.workers.orders import Replica
from tailrace.workers.process import ProcessContext
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
    )
}
