"""Import every module of the installed package; `make wheel` runs this on the wheel."""

import importlib
import pkgutil

import tailrace


def names() -> list[str]:
    """Every module but the command, which would run."""
    found = pkgutil.walk_packages(tailrace.__path__, "tailrace.")
    return [module.name for module in found if not module.name.endswith("__main__")]


def main() -> None:
    """Import them all and say how many there were."""
    modules = names()
    for name in modules:
        importlib.import_module(name)
    print(f"{len(modules)} modules imported from {tailrace.__path__[0]}")


if __name__ == "__main__":
    main()
