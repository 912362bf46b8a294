"""How much padding changes an utterance's states, with and without adapters, on small random backbones.

The states of an utterance are computed by itself and in a batch with a longer one; lengths are random. The difference
is relative to the norm of the states, and the largest over all layers counts. A row of the table is a preset on all
backbones: for how many pairs the difference is below 1e-6 in the plain backbone and in the adapted one, and, for the
other pairs, the adapted one's difference divided by the plain one's. Everything is computed in float64, at the
adapters' initial values and with noise added to them.

    python recipes/bench/padding.py                                     # every family and preset, 40 pairs of lengths
    python recipes/bench/padding.py --families wav2vec2 --presets elp,prefix_kv --out result/padding
"""

from __future__ import annotations

import csv
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from shared import stock_expert
from tabulate import tabulate

if TYPE_CHECKING:
    from torch import Tensor, nn

INVARIANT = 1e-6
CONV = ((8, 10, 5), *((8, 3, 2),) * 3, (16, 3, 2), (16, 2, 2), (16, 2, 2))
"""A narrow front end with the usual strides: 400 samples, every 320."""
KINDS = {"Base-like": ("default", False), "Large-like": ("layer_norm", True)}
"""The norm of the front end, and whether the layers' norms come before the blocks."""
SHORTEST, LONGEST = 3000, 12000
"""Samples; the longer wave of a pair is drawn between the shorter one and the longest."""
HEADER = ("preset", "noise", "plain < 1e-6", "adapted too", "other pairs", "median ratio", "largest", "on")


@dataclass(frozen=True)
class Row:
    """One preset with one noise level on one backbone."""

    backbone: str
    preset: str
    noise: float
    plain: list[float]
    """The plain backbone's difference for each pair."""
    adapted: list[float]

    @property
    def ratios(self) -> list[float]:
        """Pairs whose padding affects the plain backbone."""
        both = zip(self.adapted, self.plain, strict=True)
        return [adapted / plain for adapted, plain in both if plain > INVARIANT]

    @property
    def kept(self) -> int:
        """Pairs whose padding affects neither backbone."""
        return sum(max(both) <= INVARIANT for both in zip(self.adapted, self.plain, strict=True))


@click.command()
@click.option("--families", default="", help="Backbone families, separated by commas. [default: all]")
@click.option("--presets", default="", help="Adapter presets, separated by commas. [default: all]")
@click.option("--pairs", default=40, show_default=True, help="Pairs of lengths.")
@click.option("--noise", default=0.1, show_default=True, help="Standard deviation of the noise on the adapters.")
@click.option("--seed", default=0, show_default=True, help="Random seed of lengths, waves and noise.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write every pair to OUT.csv.")
def main(families: str, presets: str, pairs: int, noise: float, seed: int, out: Path | None) -> None:
    """Measure the effect of padding for every preset on every family."""
    from upstream_elp.adapters.config import load_config, preset_names
    from upstream_elp.mini.sizes import FAMILIES

    chosen = presets.split(",") if presets else list(preset_names())
    configs = {name: load_config(name) for name in chosen}
    rows: list[Row] = []
    for family in families.split(",") if families else FAMILIES:
        for kind in KINDS:
            with tempfile.TemporaryDirectory() as folder:
                rows += _rows(family, kind, Path(folder), configs, pairs=pairs, noise=noise, seed=seed)
    table = [_summary([row for row in rows if (row.preset, row.noise) == key]) for key in _keys(rows)]
    print(tabulate(table, headers=HEADER, tablefmt="github", floatfmt=".2f"))
    if out is not None:
        with out.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
            whole = csv.writer(file)
            whole.writerow(["backbone", "preset", "noise", "pair", "plain", "adapted"])
            for row in rows:
                pairs_of = enumerate(zip(row.plain, row.adapted, strict=True))
                whole.writerows([row.backbone, row.preset, row.noise, index, *both] for index, both in pairs_of)


def _keys(rows: Sequence[Row]) -> list[tuple[str, float]]:
    return list(dict.fromkeys((row.preset, row.noise) for row in rows))


def _summary(rows: Sequence[Row]) -> list[Any]:
    """One line of the table: a preset with one noise level on all backbones."""
    ratios = [ratio for row in rows for ratio in row.ratios]
    invariant = sum(each <= INVARIANT for row in rows for each in row.plain)
    worst = max(rows, key=lambda row: max(row.ratios, default=0.0))
    figures = [statistics.median(ratios), max(ratios), worst.backbone] if ratios else ["", "", ""]
    return [rows[0].preset, rows[0].noise, invariant, sum(row.kept for row in rows), len(ratios), *figures]


def _rows(
    family: str, kind: str, folder: Path, configs: dict[str, Any], *, pairs: int, noise: float, seed: int
) -> Iterator[Row]:
    """All presets on one backbone."""
    import torch

    from upstream_elp.upstream.expert import ElpExpert

    checkpoint = _backbone(family, kind, folder / "backbone")
    batches = drawn(pairs, seed)
    plain = padded(in_float64(stock_expert(family, checkpoint).eval()), batches, "hidden_states")
    for name, config in configs.items():
        for std in (0.0, noise):
            torch.manual_seed(seed)
            expert = ElpExpert(stock_expert(family, checkpoint), config, check=False)
            expert.trained = True  # otherwise it warns of untrained adapters
            with torch.no_grad():
                for parameter in expert.injection.parameters(expert).values():
                    parameter.add_(torch.randn(parameter.shape), alpha=std)
            ours = padded(in_float64(expert.eval()), batches, "backbone_hidden_states")
            yield Row(f"{family} {kind}", name, std, plain, ours)


def drawn(pairs: int, seed: int) -> list[list[Tensor]]:
    """Pairs of noise waves in float64, the longer one first."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(pairs):
        short = int(torch.randint(SHORTEST, LONGEST - 1000, (), generator=generator))
        long = int(torch.randint(short + 1, LONGEST, (), generator=generator))
        batches.append([0.1 * torch.randn(n, generator=generator, dtype=torch.float64) for n in (long, short)])
    return batches


def padded(expert: nn.Module, batches: Sequence[list[Tensor]], key: str) -> list[float]:
    """For each pair, the shorter wave's largest relative difference between by itself and in the batch."""
    import torch

    differences = []
    with torch.no_grad():
        for batch in batches:
            together, own = expert(batch)[key], expert(batch[1:])[key]
            both = [(a[0], b[1, : a.shape[1]]) for a, b in zip(own, together, strict=True)]
            differences.append(max(float((a - b).norm() / a.norm()) for a, b in both))
    return differences


def in_float64(module: nn.Module) -> nn.Module:
    """Use float64 throughout; S3PRL's layers round their GELU and the norms of their front end to float32."""
    from torch import nn
    from torch.nn import functional as F

    for part in module.double().modules():
        if callable(getattr(part, "activation_fn", None)):
            part.activation_fn = F.gelu
        exact = {"Fp32LayerNorm": nn.LayerNorm, "Fp32GroupNorm": nn.GroupNorm}.get(type(part).__name__)
        if exact is not None:
            part.__class__ = exact
    return module


def _backbone(family: str, kind: str, path: Path) -> Path:
    import upstream_elp
    from upstream_elp.mini.backbone import write_backbone

    upstream_elp.register()  # transformers imports torchaudio
    front, pre_norm = KINDS[kind]
    options = {"layers": 3, "dim": 32, "heads": 4, "conv": CONV, "conv_pos": 16, "conv_pos_groups": 4, "targets": 20}
    options |= {"num_buckets": 32, "max_distance": 64, "conv_pos_depth": 5 if family == "data2vec" else 1}
    return write_backbone(path, family=family, extractor_mode=front, layer_norm_first=pre_norm, **options)


if __name__ == "__main__":
    main()
