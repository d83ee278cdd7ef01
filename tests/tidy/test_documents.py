"""The documents tell the truth about the tree."""

import fnmatch
import re

from tests.tidy.sources import LAYERS, ROOT, committed, sources

FOLDERS = "core|shm|workers|clients|tailrace|tests|perf"
NAMED = re.compile(r"(?<![\w/])(?:" + FOLDERS + r")/[\w./*-]+\.(?:py|md|xml|java)")
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "HACKING.md", "LIMITS.md", "CHANGELOG.md")


def test_the_architecture_names_every_module() -> None:
    """By its path from the root, or by a pattern for alike files (core/protocol/messages/*.py)."""
    patterns = NAMED.findall((ROOT / "ARCHITECTURE.md").read_text())
    modules = [source.path for source in sources() if source.layer in ("tailrace", *LAYERS)]
    missing = [
        path
        for path in modules
        if not path.endswith("__init__.py")
        and not any(fnmatch.fnmatch(path, pattern) for pattern in patterns)
    ]
    assert not missing


def test_no_document_names_a_file_that_is_not_there() -> None:
    paths = committed()
    gone = [
        f"{document}: {pattern}"
        for document in DOCUMENTS
        for pattern in NAMED.findall((ROOT / document).read_text())
        if not fnmatch.filter(paths, pattern)
    ]
    assert not gone


def test_the_documents_name_every_make_verb() -> None:
    """HACKING.md is where a newcomer looks for what can be run."""
    verbs = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    hacking = (ROOT / "HACKING.md").read_text()
    assert not [verb for verb in verbs if f"make {verb}" not in hacking]
