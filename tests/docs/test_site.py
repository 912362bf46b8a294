"""The site builds without a warning, its links lead somewhere, and it loads nothing from the network."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.programs import call
from tests.test_structure import ORDER
from upstream_elp.adapters.config import preset_names
from upstream_elp.cli import group

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
FAULTS = ROOT / "docs" / "faults.md"
#: files that a reader writes
EXAMPLES = {
    ("adding-a-corpus.md", "upstream_elp/corpora/digits.py"),
    ("adding-a-method.md", "recipes/adapters/scale_shift.yaml"),
    ("adding-a-method.md", "upstream_elp/adapters/scale_shift.py"),
}
#: what a browser loads by itself, by tag and attribute; a link that a reader may follow is none of these
LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href", "object": "data"}


class Loaded(HTMLParser):
    """Collects the addresses that a page loads."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag in LOADED and values.get("rel") not in ("canonical", "next", "prev"):
            self.addresses.append(values.get(LOADED[tag]) or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as a reader builds it."""
    place = tmp_path_factory.mktemp("site")
    command = ["bash", str(ROOT / "recipes" / "docs" / "build.sh"), "--site-dir", str(place)]
    done = call(command, PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr  # --strict: a link, an anchor or a page that is missing
    return place


def test_the_site_builds_and_every_page_of_docs_is_in_it(site):
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert pages == {page.stem for page in site.glob("*.html")} - {"404"}
    assert len(pages) > 15
    reference = (site / "reference.html").read_text(encoding="utf-8")
    assert all(name in reference for name in ("load_adapters", "TrainedModel", "AdapterSwitch"))
    assert not re.search(r":(func|class|mod|meth|data):", reference)


def test_it_loads_nothing_from_the_network(site):
    remote = {}
    for page in site.rglob("*.html"):
        parser = Loaded()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.addresses
        remote[page.name] = [address for address in parser.addresses if re.match(r"(https?:)?//", address)]
    for sheet in site.rglob("*.css"):
        remote[sheet.name] = re.findall(
            r"(?:url\(|@import )[\"']?(?:https?:)?//[^)\"']*", sheet.read_text(encoding="utf-8")
        )
    assert not {name: found for name, found in remote.items() if found}


def _links(page: Path) -> list[str]:
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    inner = [child for token in tokens for child in token.children or ()]
    return [
        token.attrs.get("href") or token.attrs.get("src") for token in inner if token.type in ("link_open", "image")
    ]


def test_the_links_of_the_readme_lead_somewhere(site):
    """mkdocs checks the links between the pages; the README is not one of them."""
    links = [link for link in _links(README) if not link.startswith("http")]
    assert len(links) > 20
    for link in links:
        path, _, anchor = link.partition("#")
        assert (ROOT / path).is_file(), link
        if anchor:
            html = (site / Path(path).with_suffix(".html").name).read_text(encoding="utf-8")
            assert f'id="{anchor}"' in html, link


def test_the_other_links_into_docs_lead_somewhere():
    for page in (ROOT / "recipes" / "prepare" / "README.md", ROOT / "CHANGELOG.md"):
        for link in _links(page):
            assert link.startswith("http") or (page.parent / link).is_file(), f"{page}: {link}"


def test_the_readme_is_short_and_counts_right():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert f"as {len(preset_names())} presets" in text


def test_the_page_of_presets_is_what_the_code_says():
    done = call([sys.executable, str(ROOT / "recipes" / "docs" / "presets.py"), "--check"], PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr


def test_every_command_has_its_line():
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert not [name for name in group.list_commands(None) if f"| `elp {name}" not in text]


def test_the_page_of_the_layout_has_every_room_in_order():
    text = (ROOT / "docs" / "layout.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `((?:upstream_elp|downstream_heads)[\w.]*)` \|", text, flags=re.MULTILINE)) == ORDER


def test_the_files_that_the_pages_name_exist():
    """Paths below the repository's folders; a reader writes those of the examples."""
    path = re.compile(r"(?:docs|recipes|tests|upstream_elp|downstream_heads)/[\w./-]*\w")
    pages = (README, *(ROOT / "docs").glob("*.md"))
    named = {(page.name, found) for page in pages for found in path.findall(page.read_text("utf-8"))}
    assert len(named) > 60
    assert {(page, path) for page, path in named if not (ROOT / path).exists()} <= EXAMPLES


def test_the_tests_that_the_page_of_faults_names_exist():
    """Each row's last cell names tests: ``FILE::FUNCTION`` below ``tests``, a file, or cases of one test."""
    rows = [line for line in FAULTS.read_text(encoding="utf-8").splitlines() if re.match(r"\| (?!fault|-)", line)]
    cells = [name for row in rows for name in re.findall(r"`([^`]+)`", row.rstrip("| ").rsplit("|", 1)[1])]
    cases = (ROOT / "tests" / "launch" / "test_check.py").read_text(encoding="utf-8")
    assert len(rows) > 50
    assert len(cells) >= len(rows)
    for cell in cells:
        file, _, function = cell.partition("::")
        if not file.endswith(".py"):
            assert f'"{cell}"' in cases, cell
            continue
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert not function or f"def {function}(" in text, cell


def test_pages_say_only_what_the_environment_knows():
    """Variables named in the docs are read somewhere."""
    named = {name for page in (ROOT / "docs").glob("*.md") for name in re.findall(r"\bELP_[A-Z_]+", page.read_text())}
    code = "".join(file.read_text() for file in ROOT.glob("upstream_elp/**/*.py"))
    assert named
    assert not [name for name in named if name not in code]
