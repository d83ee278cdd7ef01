"""Tailrace itself, started as a user starts it."""

import contextlib
import subprocess
import sys
from pathlib import Path

from perf import wire
from perf.peers.peer import Endpoint, stop_process
from perf.slow_disk import slowed

COMMAND = Path(sys.executable).with_name("tailrace")


class Tailrace:
    """Starts and stops `tailrace start` in `directory` on a port of its own choice."""

    name = "tailrace"

    def __init__(
        self,
        directory: Path,
        settings: dict[str, str] | None = None,
        port: int = 0,
        sync_delay_ms: float = 0.0,
    ) -> None:
        """With `sync_delay_ms` each fsync and fdatasync takes so much longer (perf/slow_disk)."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.log_file = directory / "server.out"
        self._settings = settings or {}
        self._port = port
        self._sync_delay_ms = sync_delay_ms
        self._process: subprocess.Popen[bytes] | None = None
        self._ready: dict[str, str] = {}

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the supervisor is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def data(self) -> Path:
        """The broker's data directory."""
        return self.directory / "data"

    @property
    def bootstrap(self) -> str:
        """HOST:PORT, once it serves."""
        self._wait_ready()
        return self._ready["bootstrap"]

    def endpoints(self) -> dict[str, Endpoint]:
        return {"tcp": wire.address(self.bootstrap), "unix": Path(self._ready["unix"])}

    def start(self) -> None:
        settings = [part for key, value in self._settings.items() for part in ("--set", f"{key}={value}")]
        where = [] if "log.dirs" in self._settings else ["--data", str(self.data)]
        command = [str(COMMAND), "start", *where, "--port", str(self._port), *settings]
        self._ready = {}
        with self.log_file.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=self.directory,
                env=slowed(self._sync_delay_ms) if self._sync_delay_ms else None,
            )

    def stop(self) -> None:
        if self._process is None:
            return
        stop_process(self._process, grace_s=30)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def wait(self) -> int:
        """The exit status, once it has ended by itself."""
        assert self._process is not None, "not started"
        status = self._process.wait()
        self.stop()  # closes what is left of it here
        return status

    def kill(self) -> None:
        """SIGKILL to the supervisor alone, as the kernel's out-of-memory killer might choose it."""
        assert self._process is not None, "not started"
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()

    def _wait_ready(self) -> None:
        """Read the line `ready bootstrap=HOST:PORT unix=PATH data=DIR`."""
        if self._ready:
            return
        assert self._process is not None, "not started"
        assert self._process.stdout is not None
        for line in self._process.stdout:
            words = line.decode().split()
            if words and words[0] == "ready":
                self._ready = dict(word.split("=", 1) for word in words[1:])
                return
        raise RuntimeError(
            f"tailrace did not start: {self.log_file.read_text().strip() or 'it said nothing'}"
        )
