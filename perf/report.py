"""Medians over the rounds, ratios, targets: the table and the JSON file of one run."""

import json
import os
import platform
import statistics
import time
from collections import defaultdict
from pathlib import Path

from perf.measures import Figures
from perf.workloads import TARGETS

Key = tuple[str, str, str]  # workload, peer, transport


class Report:
    """Collects the figures of a run."""

    def __init__(self) -> None:
        self._rounds: dict[Key, list[Figures]] = defaultdict(list)
        self._main_figure: dict[str, str] = {}

    def add(self, workload: str, main_figure: str, peer: str, transport: str, figures: Figures) -> None:
        """Note one measurement; `main_figure` is the one that the table and the targets look at."""
        self._main_figure[workload] = main_figure
        self._rounds[workload, peer, transport].append(figures)

    def median(self, workload: str, peer: str, transport: str, figure: str | None = None) -> float | None:
        """The median over the rounds, None when it was not measured."""
        rounds = self._rounds.get((workload, peer, transport))
        name = figure or self._main_figure.get(workload)
        return statistics.median(figures[name] for figures in rounds) if rounds and name else None

    def table(self) -> str:
        """One line a workload: both peers' medians, the ratios, the targets."""
        lines = [
            f"{'workload':42} {'figure':16} {'kafka tcp':>10} {'ours tcp':>10} {'ratio':>6}"
            f" {'ours unix':>10} {'ratio':>6}  target"
        ]
        for workload, figure in self._main_figure.items():
            kafka = self.median(workload, "kafka", "tcp")
            cells = [f"{workload:42} {figure:16} {_number(kafka):>10}"]
            verdicts: list[str] = []
            for transport in ("tcp", "unix"):
                ours = self.median(workload, "tailrace", transport)
                ratio = ours / kafka if ours is not None and kafka else None
                cells.append(f"{_number(ours):>10} {_number(ratio):>6}")
                verdicts += _verdicts(workload, transport, ratio, ours)
            lines.append(" ".join(cells) + "  " + ", ".join(verdicts))
        return "\n".join(lines)

    def save(self, path: Path, notes: dict[str, str]) -> None:
        """Every figure of every round, and what it was measured on."""
        path.parent.mkdir(parents=True, exist_ok=True)
        machine = {
            "processors": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        }
        rows = [
            {"workload": workload, "peer": peer, "transport": transport, "rounds": rounds}
            for (workload, peer, transport), rounds in self._rounds.items()
        ]
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        path.write_text(
            json.dumps({"when": when, "machine": machine, **notes, "rows": rows}, indent=1) + "\n"
        )


def _verdicts(workload: str, transport: str, ratio: float | None, ours: float | None) -> list[str]:
    verdicts: list[str] = []
    for target in TARGETS:
        judged = ours if target.unit else ratio
        if judged is not None and (target.workload, target.transport) == (workload, transport):
            verdicts.append(f"{transport} {target.text()} {'met' if target.met(judged) else 'MISSED'}")
    return verdicts


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
