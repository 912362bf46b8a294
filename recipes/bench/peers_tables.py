"""Tables, files and the cost model of peers.py."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NamedTuple

import click
from peers_models import PEERS, ROWS

BASE = "S3PRL frozen"
"""The row, in fp32, to which ratios refer."""
MARKDOWN = {"tablefmt": "github", "disable_numparse": True}


class Case(NamedTuple):
    """One setting of one row."""

    part: str
    row: str
    size: str
    batch: int
    seconds: float
    precision: str

    @property
    def audio(self) -> float:
        """Seconds of audio per step."""
        return self.batch * self.seconds

    @property
    def tabled(self) -> str:
        """What all cases of one table have in common."""
        common = {"table": f"the size {self.size} and steps of {self.shape}", "length": f"the size {self.size}"}
        return common.get(self.part, f"steps of {self.shape}")

    @property
    def shape(self) -> str:
        """The batch, such as ``4 x 2 s``."""
        return f"{self.batch} x {self.seconds:g} s"


class Results:
    """What has been measured so far.

    Args:
        setting: device, threads and steps of all runs.
    """

    def __init__(self, setting: dict[str, Any]) -> None:
        self.setting = setting
        self.runs: dict[Case, dict[Hashable, dict[str, float]]] = {}
        """Case -> round -> measurement."""
        self.problems: list[str] = []

    def add(self, case: Case, number: Hashable, run: dict[str, float]) -> None:
        """Note a measurement of a round."""
        self.runs.setdefault(case, {})[number] = run

    def read(self, path: Path) -> None:
        """Add the measurements of an earlier call; its rounds are other ones than those of this call.

        Raises:
            click.UsageError: its tables are those of another backbone or batch.
        """
        content = json.loads(path.read_text(encoding="utf-8"))
        self.setting = content["setting"]
        for line in content["runs"]:
            case = Case(*(line.pop(field) for field in Case._fields))
            others = [other for other in self.of(case.part) if other.tabled != case.tabled]
            if others:
                raise click.UsageError(f"--add {path} must have {others[0].tabled}, but has {case.tabled}")
            self.add(case, f"{path.stem} {line.pop('round')}", line)
        self.problems += content["problems"]

    def of(self, part: str) -> list[Case]:
        """Return the measured cases of a part, in the order of the rows."""
        order = list(ROWS)
        return sorted((case for case in self.runs if case.part == part), key=lambda case: order.index(case.row))

    def values(self, case: Case, key: str) -> list[float]:
        """Return one value per round."""
        return [run[key] for run in self.runs[case].values()]

    def ratios(self, case: Case, base: Case, key: str = "step") -> list[float]:
        """Return the ratio to another case in every round that has both."""
        own, other = self.runs[case], self.runs.get(base, {})
        return [run[key] / other[number][key] for number, run in own.items() if number in other]

    # --- tables -------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """Return all tables as Markdown."""
        parts = [
            described(self.setting),
            table(self.table()),
            table(self.peers()),
            table(self.lengths()),
            table(self.costs()),
            table(self.sizes()),
            "\n".join(f"failed: {problem}" for problem in self.problems),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def table(self) -> list[dict[str, str]]:
        """Return the lines of the main table: a row in every precision."""
        lines: dict[str, dict[str, str]] = {}
        for case in self.of("table"):
            line = lines.setdefault(case.row, {f"step of {case.shape}": case.row})
            line |= {f"{case.precision} {name}": value for name, value in self._cells(case).items()}
        for case in self.of("table"):
            lines[case.row]["trained in upstream"] = f"{self.values(case, 'trained')[0]:,.0f}"
        return list(lines.values())

    def _cells(self, case: Case) -> dict[str, str]:
        step = self.values(case, "step")
        ratios = self.ratios(case, case._replace(row=BASE, precision="fp32"))
        return {
            self._unit: spread(step),
            "x frozen": spread(ratios),
            "utt/s": f"{case.batch / statistics.median(step):.2f}",
            "GB": f"{statistics.median(self.values(case, 'gigabytes')):.2f}",
        }

    @property
    def _unit(self) -> str:
        return "GPU s" if self.setting["device"].startswith("cuda") else "CPU s"

    def peers(self) -> list[dict[str, str]]:
        """Return our rows relative to the code that does the same, at equal precision."""
        lines = []
        for case in self.of("table"):
            for peer in (case._replace(row=name) for name in PEERS.get(case.row, ())):
                if peer in self.runs:
                    ratio = {"time": spread(self.ratios(case, peer)), "memory": spread(self.memory(case, peer))}
                    lines.append({"ours": case.row, "peer": peer.row, "precision": case.precision, **ratio})
        return lines

    def memory(self, case: Case, peer: Case) -> list[float]:
        """Return the ratio of the peaks above the loaded models in every round."""
        return self.ratios(case, peer, "gigabytes")

    def lengths(self) -> list[dict[str, str]]:
        """Return the time per second of audio for each shape of a batch."""
        lines: dict[str, dict[str, str]] = {}
        for case in self.of("length"):
            line = lines.setdefault(case.row, {f"{self._unit} per second of audio": case.row})
            line[case.shape] = spread([step / case.audio for step in self.values(case, "step")])
        return list(lines.values())

    def costs(self) -> list[dict[str, str]]:
        """Return the cost model of each row."""
        lines = []
        for row in dict.fromkeys(case.row for case in self.of("length")):
            cases = [case for case in self.of("length") if case.row == row]
            if len(cases) > len(TERMS):
                measured = [statistics.median(self.values(case, "step")) for case in cases]
                found, errors = fitted(cases, measured)
                line = {"seconds = a + b audio + c audio length": row}
                line |= {name: f"{value:.4f}" for name, value in zip(TERMS, found, strict=True)}
                lines.append({**line, "largest error": f"{100 * max(map(abs, errors)):.0f} %"})
        return lines

    def sizes(self) -> list[dict[str, str]]:
        """Return time and memory for each size of the backbone."""
        lines: dict[str, dict[str, str]] = {}
        for case in self.of("size"):
            line = lines.setdefault(case.row, {f"step of {case.shape}": case.row})
            for name, value in self._cells(case).items():
                line[f"{case.size} {name}"] = value
        return list(lines.values())

    # --- files --------------------------------------------------------------------------------------------------

    def write(self, out: Path) -> None:
        """Write the tables, all measurements and the picture."""
        from peers_picture import draw

        rows = [
            {**case._asdict(), "round": number, **run}
            for case, runs in self.runs.items()
            for number, run in runs.items()
        ]
        out.with_suffix(".md").write_text(self.text(), encoding="utf-8")
        content = {"setting": self.setting, "runs": rows, "problems": self.problems}
        out.with_suffix(".json").write_text(json.dumps(content, indent=1), encoding="utf-8")
        if rows:
            with out.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
            draw(self, out.with_suffix(".png"))


TERMS = ("a", "b", "c")
PACKAGES = ("torch", "transformers", "peft", "s3prl")


def fitted(cases: list[Case], measured: list[float]) -> tuple[list[float], list[float]]:
    """Fit ``seconds = a + b audio + c audio length`` with the smallest relative errors.

    The three terms are what does not depend on the batch (optimizer), what every frame costs, and attention, in which
    every frame meets all others of its wave.

    Args:
        cases: at least three shapes of a batch.
        measured: seconds of their steps.

    Returns:
        The three terms, none of them negative, and the relative error of the model in each case.
    """
    import numpy as np
    from scipy.optimize import nnls

    terms = np.array([[1.0, case.audio, case.audio * case.seconds] for case in cases])
    seconds = np.array(measured)
    found, _ = nnls(terms / seconds[:, None], np.ones(len(cases)))
    return found.tolist(), (terms @ found / seconds - 1).tolist()


def spread(values: list[float]) -> str:
    """Write the median, with the extremes in brackets if there are several values."""
    if not values:
        return "-"
    middle, low, high = statistics.median(values), min(values), max(values)
    digits = 3 if middle < 0.1 else 2
    text = f"{middle:.{digits}f}"
    return text if len(values) == 1 else f"{text} ({low:.{digits}f}-{high:.{digits}f})"


def table(lines: list[dict[str, str]]) -> str:
    from tabulate import tabulate

    columns = list(dict.fromkeys(name for line in lines for name in line))
    cells = [[line.get(name, "") for name in columns] for line in lines]
    return tabulate(cells, columns, colalign=("left", *["right"] * (len(columns) - 1)), **MARKDOWN) if lines else ""


def described(setting: dict[str, Any], packages: tuple[str, ...] = PACKAGES) -> str:
    """Say what the measurements were made with."""
    from importlib.metadata import version

    import torch

    device = torch.cuda.get_device_name(setting["device"]) if setting["device"].startswith("cuda") else _processor()
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{device}; {', '.join(f'{key} {value}' for key, value in setting.items())}; {versions}"


def _processor() -> str:
    """Name the CPU and its units for bf16, on which the bf16 columns depend."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "CPU"
    facts = dict(line.partition(":")[::2] for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    units = [unit for unit in ("amx_bf16", "avx512_bf16") if unit in facts.get("flags", "").split()]
    return f"{facts.get('model name', 'CPU')} ({' and '.join(units) or 'without bf16 units'})"
