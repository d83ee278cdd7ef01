"""What is said about replicas that move between the log directories of a broker; see control.py.

gateway -> controller: MoveReplicas        the order says where to (ServeReplica.future_log_dir)
worker  -> controller: CopyMade            what serves goes on meanwhile
controller -> worker:  CompleteMove        (R) no order is given until it is answered
worker  -> controller: MoveEnded           the directory is committed, and the next order names it
"""

import msgspec


class MoveReplicas(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=90):
    """Move replicas of the asking gateway's broker: topic, partition and the path of a log directory that
    serves. Answered by PartitionResults: whether it has begun.
    """

    request_id: int
    moves: list[tuple[str, int, str]]


class CopyMade(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=91):
    """The copy in this directory has all that the replica on `row` had a moment ago, nearly all of it on the
    disk. Said again until it is answered by CompleteMove, or the order has changed.
    """

    row: int
    row_generation: int
    log_dir: str


class CompleteMove(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=92):
    """Neither append nor acknowledge any more, resign if this is led, bring the copy to its end and answer
    MoveEnded.
    """

    row: int
    row_generation: int
    leader_epoch: int


class MoveEnded(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=93):
    """The copy in this directory is complete and on the disk: the replica waits for its next order, and does
    not lead in this epoch any more, or an earlier one. Or it could not be made, whether asked for or not.
    """

    row: int
    row_generation: int
    leader_epoch: int
    log_dir: str  # empty: there was no copy any more
    is_complete: bool
