"""Quix Streams counts words: BOOTSTRAP APPLICATION INPUT OUTPUT FOLDER; ends when its standard input does.

Runs in an environment of its own (`make compat`), not in that of the tests.
"""

import re
import sys
import threading
from importlib import import_module
from typing import Any

quix: Any = import_module("quixstreams")
WORD = re.compile("[a-z]+")


def words(line: str) -> list[str]:
    """The words of a line."""
    return WORD.findall(line.lower())


def itself(word: str) -> str:
    """What to group by."""
    return word


def add_one(_: str, state: Any) -> int:
    """One more of the word that is the key."""
    total = int(state.get("total", 0)) + 1
    state.set("total", total)
    return total


def application(bootstrap: str, name: str, source: str, output: str, folder: str) -> Any:
    """Lines to words, regrouped by word, counted in a store with a changelog."""
    app = quix.Application(
        broker_address=bootstrap,
        consumer_group=name,
        auto_offset_reset="earliest",
        state_dir=f"{folder}/state",
        commit_interval=0.5,
        loglevel="INFO",
    )
    lines = app.topic(source, value_deserializer="string")
    counted = app.topic(output, value_serializer="string", key_serializer="string")
    frame = app.dataframe(lines).apply(words, expand=True)
    text = {"key_serializer": "string", "key_deserializer": "string"}
    frame = frame.group_by(itself, name="word", **text)
    frame = frame.apply(add_one, stateful=True).apply(str)
    frame.to_topic(counted)
    return app


def stop_with_input(app: Any) -> None:
    """Stop the application when nobody is there any more."""
    sys.stdin.read()
    app.stop()


if __name__ == "__main__":
    made = application(*sys.argv[1:])
    threading.Thread(target=stop_with_input, args=(made,), daemon=True).start()
    made.run()
