"""64-bit words that several processes share: the only place that says how one is stored.

A word is 8 bytes, 8-byte aligned, signed. It is loaded and stored as an item of a `memoryview.cast("q")`,
which CPython turns into one aligned load or store: no reader ever sees half of it. `struct.pack_into`
zero-fills its target first and is banned in shm.

Order: x86-64 keeps the order of stores and the order of loads, so bytes stored before a word are visible to
whoever sees the word. Only a store followed by a load of another word may swap; `fence` forbids that.
"""

import _thread
import os

_lock = _thread.allocate_lock()
_acquire = _lock.acquire
_release = _lock.release


def map_words(buffer: "bytearray | memoryview") -> "memoryview[int]":
    """The buffer as words. Its length is a multiple of 8 and its start is 8-byte aligned."""
    return memoryview(buffer).cast("B").cast("q")


def differing(now: bytes, before: bytes | bytearray) -> list[int]:
    """Numbers of the words that differ, in order; both hold as many. Fast where few do: a hundred nanoseconds
    a word that does, whatever lies between.
    """
    difference = int.from_bytes(now, "little") ^ int.from_bytes(before, "little")
    found: list[int] = []
    number = 0
    while difference:
        skip = (difference & -difference).bit_length() - 1 >> 6
        number += skip
        found.append(number)
        number += 1
        difference >>= 64 * (skip + 1)
    return found


def fence() -> None:
    """A full fence: no later load is done before every earlier store is visible.

    An uncontended lock is taken by one locked instruction, which is such a fence on x86-64.
    """
    _acquire()
    _release()


def _renew_lock() -> None:
    """A thread that held the lock at the fork does not exist in the child."""
    global _lock, _acquire, _release
    _lock = _thread.allocate_lock()
    _acquire = _lock.acquire
    _release = _lock.release


os.register_at_fork(after_in_child=_renew_lock)
