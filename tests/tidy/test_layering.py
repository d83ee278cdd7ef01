"""Who may import whom, and what must stay out of core (ARCHITECTURE.md says why)."""

import sys

from tests.tidy.sources import LAYERS, Source, sources

MAY_IMPORT = {
    "core": {"core"},
    "shm": {"shm", "core"},
    "workers": {"workers", "shm", "core"},
    "clients": {"clients", "shm", "core"},
    "tailrace": {"tailrace", *LAYERS},
    "perf": {"perf", "tailrace", *LAYERS},
    "tests": {"tests", "perf", "tailrace", *LAYERS},
}

# What decides has no sockets, no processes, no clock and no chance.
DOES_THINGS = {
    *("socket", "selectors", "select", "asyncio", "threading", "multiprocessing", "subprocess", "signal"),
    *("time", "datetime", "random", "secrets", "os", "mmap", "ctypes", "io", "pathlib", "shutil", "tempfile"),
}
# The one door to files: everything else in core gets a Directory.
DOOR = {"core/log/directory.py": {"os", "mmap"}}

CORE_PACKAGES = {"msgspec", "crc32c", "zstandard", "lz4", "cramjam", "numpy", "re2"}
ONLY_IN_FUNCTIONS = {"zstandard", "lz4", "cramjam", "numpy", "re2"}
NEVER_IN_A_PROCESS_OF_THE_BROKER = {"numpy", "asyncio", "multiprocessing", "rich", "click", "logging"}


# Found by name while the broker runs, so nobody imports it in words.
FOUND_BY_NAME = ("tailrace.core.protocol.messages.", "tailrace.clients.cli.", "tailrace.__main__")


def layer_of(module: str) -> str | None:
    """The layer of a module of ours, None for one of others."""
    parts = module.split(".")
    if parts[0] == "tailrace":
        return parts[1] if len(parts) > 1 and parts[1] in LAYERS else "tailrace"
    return parts[0] if parts[0] in ("tests", "perf", *LAYERS) else None


def in_layer(*layers: str) -> list[Source]:
    """The files of these layers."""
    return [source for source in sources() if source.layer in layers]


def test_each_layer_imports_only_layers_below_it() -> None:
    wrong = [
        f"{source.path}:{imported.line} imports {imported.module}"
        for source in in_layer(*MAY_IMPORT)
        for imported in source.imports()
        if (layer := layer_of(imported.module)) and layer not in MAY_IMPORT[source.layer]
    ]
    assert not wrong


def test_layers_are_imported_by_their_one_name() -> None:
    wrong = [
        f"{source.path}:{imported.line}: import tailrace.{imported.module}"
        for source in sources()
        for imported in source.imports()
        if imported.module.split(".")[0] in LAYERS
    ]
    assert not wrong


def test_core_does_nothing_itself() -> None:
    wrong = [
        f"{source.path}:{imported.line} imports {imported.module}"
        for source in in_layer("core")
        for imported in source.imports()
        if (top := imported.module.split(".")[0]) in DOES_THINGS and top not in DOOR.get(source.path, ())
    ]
    assert not wrong


def test_core_uses_few_packages_and_loads_the_heavy_ones_late() -> None:
    wrong: list[str] = []
    for source in in_layer("core"):
        for imported in source.imports():
            top = imported.module.split(".")[0]
            foreign = top not in sys.stdlib_module_names and top != "tailrace"
            late = imported.at_import and top in ONLY_IN_FUNCTIONS
            if late or (foreign and top not in CORE_PACKAGES):
                wrong.append(f"{source.path}:{imported.line} imports {imported.module}")
    assert not wrong


def test_shm_and_workers_import_nothing_heavy() -> None:
    wrong = [
        f"{source.path}:{imported.line} imports {imported.module}"
        for source in in_layer("shm", "workers")
        for imported in source.imports()
        if imported.module.split(".")[0] in NEVER_IN_A_PROCESS_OF_THE_BROKER
    ]
    assert not wrong


def test_every_module_is_used() -> None:
    """A module that nobody of the package imports is dead, unless something finds it by name."""
    ours = in_layer("tailrace", *LAYERS)
    used = {imported.module for source in ours for imported in source.imports()}
    used |= {module.rpartition(".")[0] for module in used}
    modules = [source.module for source in ours if not source.path.endswith("__init__.py")]
    unused = [module for module in modules if module not in used and not module.startswith(FOUND_BY_NAME)]
    assert not unused
