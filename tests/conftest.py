"""What every test shares: one thread, and a count of the law cases that ran."""

from collections import Counter

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def law(request):
    """Call it with a law's name: the case is counted in the report at the end, worker processes included."""

    def count(name):
        request.node.user_properties.append(("law", name))

    return count


def pytest_terminal_summary(terminalreporter):
    counts = {outcome: Counter() for outcome in ("passed", "failed")}
    for outcome, counter in counts.items():
        for report in terminalreporter.stats.get(outcome, []):
            counter.update(value for key, value in getattr(report, "user_properties", []) if key == "law")
    if not (laws := sorted(set().union(*counts.values()))):
        return
    terminalreporter.section("adapter laws")
    for name in laws:
        terminalreporter.write_line(f"{name}: {counts['passed'][name]} cases hold, {counts['failed'][name]} fail")
    terminalreporter.write_line(f"all laws: {sum(map(sum, (c.values() for c in counts.values())))} cases")
