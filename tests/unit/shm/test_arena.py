"""The arena's allocator and files of large requests."""

import os
from pathlib import Path

import pytest

from tailrace.shm.arena import BLOCK_MAX, BLOCK_SIZES, Arena, LargeFile


def test_block_has_the_smallest_class_that_fits(tmp_path: Path) -> None:
    arena = Arena.create(str(tmp_path / "arena"), 16 << 20)
    for size, expected in (
        (1, 4096),
        (4096, 4096),
        (4097, 16384),
        (65536, 65536),
        (65537, 262144),
        (BLOCK_MAX, BLOCK_MAX),
    ):
        position = arena.allocate(size)
        assert position is not None
        assert arena.class_size(position) == expected


def test_bytes_received_here_are_read_by_another_mapping_at_the_same_position(tmp_path: Path) -> None:
    path = str(tmp_path / "arena")
    arena = Arena.create(path, 2 << 20, owner=5)
    worker = Arena.attach(path)
    position = arena.allocate(9)
    assert position is not None
    arena.view[position : position + 9] = b"a request"
    assert worker.map[position : position + 9] == b"a request"
    assert worker.region.owner == 5
    arena.close()
    worker.close()


def test_warm_memory_is_used_again_first(tmp_path: Path) -> None:
    arena = Arena.create(str(tmp_path / "arena"), 2 << 20)
    first, second = arena.allocate(100), arena.allocate(100)
    assert first is not None
    assert second is not None
    arena.free(first)
    arena.free(second)
    assert (arena.allocate(100), arena.allocate(100)) == (second, first)


def test_full_arena_says_none_and_emptied_chunks_change_their_class(tmp_path: Path) -> None:
    arena = Arena.create(str(tmp_path / "arena"), 4 << 20)
    for size in BLOCK_SIZES:
        taken = [arena.allocate(size) for _ in range((4 << 20) // size)]
        positions = [position for position in taken if position is not None]
        assert len(set(positions)) == len(taken)
        assert arena.allocate(1) is None
        assert arena.allocate(BLOCK_MAX) is None
        for position in positions:
            arena.free(position)


def test_block_freed_twice_is_a_broken_owner(tmp_path: Path) -> None:
    arena = Arena.create(str(tmp_path / "arena"), 2 << 20)
    position = arena.allocate(1)
    assert position is not None
    arena.free(position)
    with pytest.raises(AssertionError, match="freed once"):
        arena.free(position)


def test_large_request_has_a_file_of_its_own_while_it_lives(tmp_path: Path) -> None:
    large = LargeFile.create(str(tmp_path), 2, 7, 1, 3 << 20)
    assert os.listdir(tmp_path) == ["large-2.7-1"]
    worker = LargeFile.attach(str(tmp_path), 2, 7, 1)
    large.view[LargeFile.start : LargeFile.start + 4] = b"tail"
    large.unlink()
    assert worker.map[worker.start : worker.start + 4] == b"tail"
    assert os.listdir(tmp_path) == []
    large.close()
    worker.close()
