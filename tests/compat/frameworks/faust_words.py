"""Faust counts words: BOOTSTRAP APPLICATION INPUT OUTPUT FOLDER; ends when its standard input does.

Runs in an environment of its own (`make compat`), not in that of the tests.
"""

import asyncio
import re
import sys
from importlib import import_module
from typing import Any

faust: Any = import_module("faust")
WORD = re.compile("[a-z]+")


def application(bootstrap: str, name: str, source: str, output: str, folder: str) -> Any:
    """One agent, one table; each count is sent on as text under the word as key."""
    app = faust.App(
        name,
        broker=f"kafka://{bootstrap}",
        datadir=folder,
        store="memory://",
        topic_partitions=4,
        topic_replication_factor=1,
        topic_allow_declare=False,
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=0.5,
    )
    lines = app.topic(source, value_type=bytes, value_serializer="raw")
    counted = app.topic(output, key_type=bytes, value_type=bytes, value_serializer="raw")
    counts: dict[str, int] = {}

    async def count_words(stream: Any) -> None:
        async for line in stream:
            for word in WORD.findall(line.decode().lower()):
                counts[word] = counts.get(word, 0) + 1
                await counted.send(key=word.encode(), value=str(counts[word]).encode())

    app.agent(lines)(count_words)
    return app


async def run(app: Any) -> None:
    """Until standard input ends."""
    async with app:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(run(application(*sys.argv[1:])))
