"""The 64-byte entries between a gateway and a worker: eight signed words each way.

    word   request (gateway -> worker)                    completion (worker -> gateway)
       0   kind                                           kind
       1   token      names the request to its gateway    token (of ROW_ADVANCED: the row)
       2   row                                            error code
       3   row generation                                 base offset (LOOK_UP: the offset found, -1 none)
                                                          ASK: length of the answer
       4   PRODUCE: large file serial, 0 for the arena    log append time in ms, -1 (LOOK_UP: the timestamp)
           LOOK_UP: timestamp in ms, -3 the largest
       5   position in that mapping                       log start offset
       6   length of the batch, of the question           leader epoch
           ASK_AGAIN: token of the question
       7   ASK: what is asked << 32 | bytes that the      0
           answer may take from that position on
           PRODUCE: ONCE_COMMITTED, or 0 when the
           append is enough

The worker copies the batch out of the gateway's memory before it completes the entry, never after: the
completion is what frees that memory (R).
"""

from struct import Struct
from typing import Final

PRODUCE: Final = 1
LOOK_UP: Final = 2
ROW_ADVANCED: Final = 3
ASK: Final = 4
ASK_AGAIN: Final = 5

GROUP_REQUEST: Final = 1  # what is asked: of a coordinator, later
DELETE_RECORDS: Final = 2  # of the leader, which answers at once (workers/partition_answers.py)
DESCRIBE_PRODUCERS: Final = 3
EPOCH_END: Final = 4

MAX_TIMESTAMP: Final = -3  # as in ListOffsets

ONCE_COMMITTED: Final = 1  # of acks=all

REQUESTS_MAX: Final = 512  # entries a gateway may have under way at one worker
ASKS_MAX: Final = 1024  # questions besides, which may wait for minutes
COMPLETIONS_MAX: Final = 2048  # entries of the ring back: all completions always fit, and some notices

Entry = tuple[int, int, int, int, int, int, int, int]

pack = Struct("<8q").pack

ARENA_BYTES: Final = 24 << 20


def arena_name(slot: int, incarnation: int) -> str:
    """File name of a gateway's arena in the run directory."""
    return f"arena-{slot}.{incarnation}"
