"""Calls we do not make, with what to do instead; sizes; words that mark unfinished work."""

import ast
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.tidy.sources import ROOT, Source, committed, sources

LINES_MAX = 500
FUNCTION_LINES_MAX = 60
GENERATES_CODE = {"core/protocol/compile.py"}


class Ban(NamedTuple):
    """A call, as it is written, where it is banned, and what to do instead."""

    call: str
    where: Callable[[Source], bool]
    instead: str


def anywhere(_: Source) -> bool:
    """In every file."""
    return True


def shares_memory(source: Source) -> bool:
    """In shm, but for the one file that says how a shared word is stored."""
    return source.layer == "shm" and source.path != "shm/words.py"


def is_test(source: Source) -> bool:
    """In tests, but for the one loop that waits."""
    return source.layer == "tests" and source.path != "tests/support/waiting.py"


def sleeps_in_a_loop(source: Source) -> bool:
    """In the broker's processes; the wait for the data directory's lock comes before there is one."""
    return source.layer == "workers" and source.path != "workers/data_dir.py"


def writes_no_code(source: Source) -> bool:
    """Everywhere but in the codec."""
    return source.path not in GENERATES_CODE


def is_core(source: Source) -> bool:
    """In core."""
    return source.layer == "core"


BANS = [
    Ban(
        r"(.*\.)?pack_into",
        shares_memory,
        "store items of a words view: pack_into zeroes the target first, and a reader can see it",
    ),
    Ban(
        r"(.*\.)?SharedMemory",
        anywhere,
        "map a file of the run directory: its tracker unlinks what others use",
    ),
    Ban(
        r"time\.sleep(?!\(0\))",
        is_test,
        "wait for the condition: tests.support.waiting.wait_until",
    ),
    Ban(
        r"time\.sleep",
        sleeps_in_a_loop,
        "park on the doorbell: a sleeping process is deaf",
    ),
    Ban(r"eval|os\.system|os\.popen|pickle\.loads?|marshal\.loads?", anywhere, "parse what you mean"),
    Ban(r"exec|compile", writes_no_code, "only the codec generates code"),
    Ban(r"print", is_core, "return it: core does nothing itself"),
]


def calls(source: Source) -> Iterator[tuple[int, str]]:
    """Every call, as it is written, with its line."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize("ban", BANS, ids=[ban.call for ban in BANS])
def test_nobody_calls_what_is_banned(ban: Ban) -> None:
    wrong = [
        f"{source.path}:{line} calls {called[:60]}: {ban.instead}"
        for source in sources()
        if ban.where(source)
        for line, called in calls(source)
        if re.match(rf"(?:{ban.call})\(", called)
    ]
    assert not wrong


def test_modules_stay_short() -> None:
    lengths = {source.path: source.text.count("\n") for source in sources()}
    assert not {path: length for path, length in lengths.items() if length >= LINES_MAX}


def test_functions_stay_short() -> None:
    too_long = [
        f"{source.path}:{function.lineno} {function.name}: {length} lines"
        for source in sources()
        for function in source.functions()
        if (length := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert not too_long


def test_modules_and_public_things_say_what_they_are() -> None:
    silent: list[str] = []
    for source in sources():
        if source.layer == "tests" and "/test_" in source.path:
            continue
        if source.text.strip() and not ast.get_docstring(source.tree):
            silent.append(source.path)
        for node in source.tree.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if not node.name.startswith("_") and not ast.get_docstring(node):
                silent.append(f"{source.path}:{node.lineno} {node.name}")
    assert not silent


def test_nothing_is_left_for_later() -> None:
    marks = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]) + r")\b")
    assert not [source.path for source in sources() if marks.search(source.text)]


def test_no_file_knows_one_machine() -> None:
    """No path of the place where it was written, and no address but those of the documents' own subjects."""
    places = re.compile(
        r"(?<![\w.$}>])/(?:" + "|".join(["work", "root", "home/[a-z]", "tmp/peers", "tmp/design"]) + r")/"
    )
    address = re.compile(r"https?://([\w.-]+)")
    known = {
        "127.0.0.1",
        "localhost",
        "maven.apache.org",
        "kafka.apache.org",
        "cwiki.apache.org",
        "github.com",
    }
    wrong: list[str] = []
    for path in committed():
        if path == "LICENSE":
            continue
        try:
            text = (ROOT / path).read_text()
        except UnicodeDecodeError:
            continue  # recorded bytes
        wrong += [f"{path}: {found.group()}" for found in places.finditer(text)]
        hosts = {found.group(1) for found in address.finditer(text)}
        wrong += [f"{path}: {host}" for host in hosts - known if not host.endswith((".example", ".test"))]
    assert not wrong
