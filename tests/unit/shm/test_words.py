"""Words are whole, and the fence survives a fork."""

import mmap
import threading

from hypothesis import given
from hypothesis import strategies as st

from tailrace.shm.words import differing, fence, map_words
from tests.support.forks import fork

READS = 200_000
_WORD = st.sampled_from((0, 1, -1, 1 << 62, -(1 << 63), 1 << 32))


def test_words_are_signed_and_64_bits() -> None:
    buffer = bytearray(16)
    words = map_words(buffer)
    words[1] = -2
    assert buffer == bytes(8) + (-2).to_bytes(8, "little", signed=True)


@given(st.lists(st.tuples(_WORD, _WORD), max_size=40))
def test_the_words_that_differ(pairs: list[tuple[int, int]]) -> None:
    now, before = (
        b"".join(pair[side].to_bytes(8, "little", signed=True) for pair in pairs) for side in (0, 1)
    )
    expected = [number for number, (new, old) in enumerate(pairs) if new != old]
    assert differing(now, before) == differing(now, bytearray(before)) == expected


def test_reader_beside_a_writer_sees_only_whole_words() -> None:
    words = map_words(memoryview(mmap.mmap(-1, 4096)))
    values = (0x0101010101010101, 0x7E7E7E7E7E7E7E7E)
    words[0] = values[0]

    def write() -> None:
        while not words[8]:
            words[0] = values[0]
            words[0] = values[1]

    child = fork(write)
    seen = {words[0] for _ in range(READS)}
    words[8] = 1
    assert child.wait() == 0
    assert seen <= set(values)


def test_child_can_fence_although_a_thread_held_the_lock_at_the_fork() -> None:
    stop = threading.Event()

    def fence_for_ever() -> None:
        while not stop.is_set():
            fence()

    thread = threading.Thread(target=fence_for_ever)
    thread.start()
    children = [fork(fence) for _ in range(20)]
    stop.set()
    thread.join()
    assert [child.wait() for child in children] == [0] * 20
