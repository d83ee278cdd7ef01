"""Shared words that tell of each store, in the order of stores."""

from collections.abc import Callable
from typing import Any


class WatchedWords:
    """Stands for a view of words; `on_store` is called after each store with its index or slice."""

    def __init__(self, words: Any, on_store: Callable[[Any], object]) -> None:
        self._words = words
        self._on_store = on_store

    def __getitem__(self, index: Any) -> Any:
        return self._words[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._words[index] = value
        self._on_store(index)
