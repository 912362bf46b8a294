"""Tables as Markdown and LaTeX: names of any characters are shown as they are."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from upstream_elp.summary.document import (
    LATEX,
    Code,
    Marked,
    Section,
    Table,
    by_columns,
    escape,
    latex_table,
    markdown_table,
    to_markdown,
)

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=20)
AWKWARD = st.text(st.sampled_from([*LATEX, "a", " ", "-", ",", "{", "}"]), max_size=20)
WORDS = sorted(LATEX.values(), key=len, reverse=True)


def read(latex):
    """What LaTeX shows: the opposite of ``escape``, from the left to the right."""
    shown, back = [], {text: character for character, text in LATEX.items()}
    while latex:
        found = next((word for word in [*WORDS, "{}"] if latex.startswith(word)), latex[0])
        shown.append("" if found == "{}" else back.get(found, found))
        latex = latex[len(found) :]
    return "".join(shown)


@given(st.one_of(NAMES, AWKWARD))
def test_every_name_can_be_read_from_its_latex(name):
    line = re.sub(r"\s+", " ", name)
    assert read(escape(name)) == line
    bare = escape(name)
    for word in [*WORDS, "{}"]:
        bare = bare.replace(word, "")
    assert not set(bare) & set("\\{}$&#%_~^<>|\"`'[*"), "what is not escaped means nothing to LaTeX"
    assert "--" not in escape(name) and ",," not in escape(name)


@pytest.mark.parametrize(
    ("name", "latex"),
    [
        ("lora_qv8", r"lora\_qv8"),
        ("a&b", r"a\&b"),
        ("50 %", r"50 \%"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("76.1 ± 1.4 ↑", r"76.1 $\pm$ 1.4 $\uparrow$"),
        ("two\nlines", "two lines"),
    ],
)
def test_names_as_latex(name, latex):
    assert escape(name) == latex


def test_numbers_have_minus_signs_and_names_hyphens():
    rows = [["le-2", "-4.17", "-16.67 to +0.00", "-"]]
    assert r"le-2 & $-$4.17 & $-$16.67 to +0.00 & - \\" in latex_table(Table("t", "", ["a", "b", "c", "d"], rows))


@given(st.lists(st.tuples(AWKWARD, NAMES), min_size=1, max_size=4))
def test_a_latex_table_has_its_cells(rows):
    table = Table("t", "A caption\nof two lines.", ["a&b", "c"], [[a, Marked(b, " ± 1", best=True)] for a, b in rows])
    lines = latex_table(table).splitlines()
    assert lines[0] == "% A caption of two lines." and lines[2:6:1][0] == r"\begin{tabular}{lr}"
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert len(body) == len(rows) and all(line.endswith(r" \\") for line in body)
    for line, (first, second) in zip(body, rows, strict=True):
        left, right = re.split(r" (?<!\\)& ", line.removesuffix(r" \\"))
        assert left == escape(first) and right == rf"\textbf{{\underline{{{escape(second)}}}}} $\pm$ 1"


@given(st.lists(st.tuples(AWKWARD, NAMES), min_size=1, max_size=4))
def test_a_markdown_table_shows_its_cells(rows):
    table = Table("t", "", ["first", "a|b"], [[f"x{a}x", Marked(f"x{b}x", " ± 1")] for a, b in rows])
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown_table(table))
    assert html.count("<td") == 2 * len(rows) and html.count("<strong>") == len(rows)
    assert "<th>first</th>" in html.replace(' style="text-align:left"', "") and "a|b</th>" in html


def test_columns_without_text_are_not_shown():
    rows = [{"method": "a", "chosen": "", "p": "-"}, {"method": "b", "chosen": "", "p": "0.5"}]
    table = by_columns("t", "", rows, left=("chosen",))
    assert table.headers == ["method", "p"] and table.sides == ["left", "right"]
    assert by_columns("t", "", rows, keep=("chosen",)).headers == ["method", "chosen", "p"]


def test_code_with_fences_stays_code():
    table = Table("t", "WER* of a|b.", ["a", "b"], [["1", "2"]], ["left", "right"])
    assert "\n\nWER\\* of a\\|b.\n\n| a" in to_markdown("T", [Section("Results", [table])])
    text = to_markdown("T", [Section("Part & parcel", [Code("Lines:", "```\nx\n```")])])
    tokens = MarkdownIt().parse(text)
    assert [token.content for token in tokens if token.type == "fence"] == ["```\nx\n```\n"]
    assert Section("Part & parcel", []).anchor == "part-parcel"
