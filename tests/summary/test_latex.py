"""The LaTeX tables of a report: complete, and accepted by LaTeX where there is one."""

import re
import shutil
import string
import subprocess

import pytest

from tests.sweep_folders import toy_sweep
from upstream_elp.summary.document import Marked, Table, latex_table
from upstream_elp.summary.report import write


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The tables of a sweep, and one in which every character stands everywhere."""
    folder = toy_sweep(tmp_path_factory.mktemp("sweep"))
    write(folder)
    characters = [*(each for each in string.printable if not each.isspace()), *"äéßµ°…±↓", "\u00d7"]
    rows = [[each, f"{each}{each} -{each}", Marked(each, f" ± 1{each}", best=True)] for each in characters]
    every = folder / "report" / "tables" / "every.tex"
    every.write_text(latex_table(Table("every", "a caption with % and \\ and\na second line", ["[a", "*", "&"], rows)))
    return sorted(every.parent.glob("*.tex"))


def test_every_table_is_complete(tables):
    assert len(tables) >= 15
    for path in tables:
        text = path.read_text()
        lines = [line for line in text.splitlines() if not line.startswith("%")]
        assert lines[0].startswith(r"\begin{tabular}{") and lines[-1] == r"\end{tabular}", path
        assert [line for line in lines if re.match(r"\\[a-z]*rule$", line)] == [
            r"\toprule",
            r"\midrule",
            r"\bottomrule",
        ]
        columns = len(lines[0].rpartition("{")[2]) - 1
        for line in lines:
            if line.endswith(r" \\"):
                bare = re.sub(r"\\.", "", line)
                assert bare.count("&") == columns - 1, line
                assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0, line


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
@pytest.mark.parametrize("fonts", ["", r"\usepackage[T1]{fontenc}"], ids=["OT1", "T1"])
def test_latex_accepts_every_table(fonts, tables, tmp_path):
    inputs = "\n\n".join(rf"\input{{{path}}}" for path in tables)
    text = rf"\documentclass{{article}}\usepackage{{booktabs}}{fonts}\begin{{document}}{inputs}\end{{document}}"
    (tmp_path / "page.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    log = (tmp_path / "page.log").read_text(errors="replace")
    assert "Missing character" not in log and (tmp_path / "page.pdf").stat().st_size > 1000
