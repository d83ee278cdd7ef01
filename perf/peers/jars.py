"""Where the jars of `make peers` are, and the java that runs them."""

import os
import shutil
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
MISSING = "Apache Kafka's jars or java are not here: run `make peers`"


def jars() -> Path | None:
    """The folder of jars, or None when `make peers` has not run."""
    folder = Path(os.environ.get("TAILRACE_PEERS", REPOSITORY / ".peers")) / "jars"
    return folder if any(folder.glob("kafka-clients-*.jar")) else None


def available() -> bool:
    """Whether Java peers can run on this machine."""
    return jars() is not None and shutil.which("java") is not None


def class_path(*more: Path) -> str:
    """The class path of Kafka's server and tools, after the folders given."""
    folder = jars()
    if folder is None:
        raise FileNotFoundError(MISSING)
    return ":".join([*map(str, more), f"{folder}/*"])
