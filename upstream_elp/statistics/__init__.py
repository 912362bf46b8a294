"""How certain a test value is: intervals over speakers, comparisons of methods on the same draws, means over seeds.

A run keeps the results of every item of its dev and test sets in ``items-<split>.csv``. Everything else follows from
these files; ``docs/statistics.md`` has the formulas. The functions, all importable from here::

    load_items(path) -> Items                     # path: items-<split>.csv, or an experiment folder with split="test"
    save_items(path, items)
    join_folds({"fold1": Items, ...}) -> Items    # measures are then means over the folds

    interval(items, measure=None, *, draws=1000, level=0.95, seed=0) -> Interval
        # items: Items, or a list with one Items for each training seed; measure: "wer", "eer", "acc", ...
        # Interval: value, se, low, high, clusters, rough, seed_sd, ...; str(interval) is
        # "76.10 % ± 1.40 (95 % 73.20 to 78.80, 20 speakers)"; interval.to_dict() is plain values for JSON

    compare(a, b, measure=None, *, draws=1000, level=0.95, seed=0) -> Comparison       # difference = b - a
        # Comparison: difference, se, low, high, p, p_holm, a, b, rough, ...; comparison.non_inferior(margin) -> bool
    compare_all(reference, {name: items}, ...) -> {name: Comparison}                   # p_holm filled in
    holm([p, ...]) -> [adjusted p, ...]
    over_seeds([value, ...]) -> Seeds             # mean, sd, se, count

    items.measures -> ("wer", "uer")              # what a file has; the first one is the default
    estimate(items, measure=None) -> float        # the value itself, without draws

All values are in per cent. Wrong input raises :class:`upstream_elp.base.errors.ElpError`.
"""

from upstream_elp.statistics.comparison import Comparison, compare, compare_all, holm, sign_flip
from upstream_elp.statistics.intervals import Interval, Seeds, estimate, interval, over_seeds
from upstream_elp.statistics.items import Items, items_path, join_folds, load_items, save_items

__all__ = [
    "Comparison",
    "Interval",
    "Items",
    "Seeds",
    "compare",
    "compare_all",
    "estimate",
    "holm",
    "interval",
    "items_path",
    "join_folds",
    "load_items",
    "over_seeds",
    "save_items",
    "sign_flip",
]
