"""CRC-32C of any buffer, by the extension module of the `crc32c` package.

The package's own __init__ imports importlib.metadata only to state its version: 20.6 of the 25 ms that the
whole import takes, too much of a start that should take under 300 ms; this module takes 3.8 ms (measured). So
the extension inside the package is loaded by itself, under its own name, and the package is imported only if
that does not work.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from sys import modules
from types import ModuleType
from typing import cast

EXTENSION = "crc32c._crc32c"


def load_extension() -> ModuleType | None:
    """The package's extension module without the package; None if it is not laid out as we know it."""
    known = modules.get(EXTENSION)
    if known is not None:
        return known
    package = PathFinder.find_spec("crc32c")
    if package is None or package.submodule_search_locations is None:
        return None
    spec = PathFinder.find_spec(EXTENSION, package.submodule_search_locations)
    if spec is None or spec.loader is None:
        return None
    try:
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError:
        return None
    modules[EXTENSION] = module  # the package finds it there should somebody import it later
    return module


def _crc32c() -> Callable[..., int]:
    module = load_extension()
    if module is None or not hasattr(module, "crc32c"):
        module = import_module("crc32c")
    return cast("Callable[..., int]", module.crc32c)


crc32c = _crc32c()
"""crc32c(buffer, value=0) -> int: any object with the buffer protocol, also a view of a mapping."""
