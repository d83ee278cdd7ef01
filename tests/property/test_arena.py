"""Blocks that are out never overlap, and what is given back can be had again."""

import tempfile
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.shm.arena import BLOCK_MAX, Arena

SIZE = 4 << 20

steps = st.lists(
    st.one_of(
        st.integers(1, 70_000),
        st.integers(1, BLOCK_MAX),
        st.integers(-30, -1),  # give back one of those that are out
    ),
    max_size=150,
)


@settings(max_examples=60, deadline=None)
@given(steps=steps)
def test_blocks_never_overlap_and_all_come_back(steps: list[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        arena = Arena.create(f"{directory}/arena", SIZE)
        out: list[int] = []
        for step in steps:
            if step > 0:
                position = arena.allocate(step)
                if position is not None:
                    assert step <= arena.class_size(position)
                    assert 4096 <= position <= 4096 + SIZE - arena.class_size(position)
                    out.append(position)
            elif out:
                arena.free(out.pop(step % len(out)))
            ends = sorted((position, position + arena.class_size(position)) for position in out)
            assert all(first[1] <= second[0] for first, second in pairwise(ends))
        for position in out:
            arena.free(position)
        assert None not in [arena.allocate(BLOCK_MAX) for _ in range(SIZE // BLOCK_MAX)]
        arena.close()
