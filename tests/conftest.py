"""Fixtures of all tests: one thread, the toy corpora, and a count of the law cases that ran."""

from collections import Counter

import pytest
import torch

from tests import toy_corpora

torch.set_num_threads(1)

#: what a law does not ask of a method, and why
REFUSALS = {
    "the backbone is trained in place, so that its plain weights are gone",
    "the method does more than change weights, so that a plain backbone cannot contain it",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The four corpora, so small that a run takes a second; to be read only."""
    return toy_corpora.write_all(tmp_path_factory.mktemp("data"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Keep indexes and tables of lengths for this test only."""
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def own_data(cache, tmp_path):
    """A copy of the four corpora for this test only, which may change them."""
    return toy_corpora.write_all(tmp_path / "data")


@pytest.fixture
def law(request):
    """Call it with a law's name: the report at the end counts the case, including those of worker processes.

    A case that the project refuses counts as refused, with the reason: the reasons are a reviewed list.
    """

    def count(name, refused=None):
        assert refused is None or refused in REFUSALS, refused
        request.node.user_properties.append(("law", f"{name} (refused: {refused})" if refused else name))

    return count


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.stats.get("passed", []):
        for text in (value for key, value in getattr(report, "user_properties", []) if key == "docs"):
            terminalreporter.section("documentation")
            terminalreporter.write_line(text)
    counts = {outcome: Counter() for outcome in ("passed", "failed")}
    for outcome, counter in counts.items():
        for report in terminalreporter.stats.get(outcome, []):
            counter.update(value for key, value in getattr(report, "user_properties", []) if key == "law")
    if not (laws := sorted(set().union(*counts.values()))):
        return
    terminalreporter.section("adapter laws")
    for name in laws:
        terminalreporter.write_line(f"{name}: {counts['passed'][name]} cases hold, {counts['failed'][name]} fail")
    total = Counter()
    for counter in counts.values():
        for name, number in counter.items():
            total["refused" if "(refused: " in name else "run"] += number
    terminalreporter.write_line(f"all laws: {total['run']} cases run, {total['refused']} refused")
