"""Folders of corpora as they really are: unreadable folders, circular links, linked corpora, strays."""

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests import toy_corpora
from tests.corpus_tools import PREPARE, QUICK, ROOTS, expert, items, survey, write_small
from tests.toys import tiny_backbone
from upstream_elp import cli
from upstream_elp.audio.headers import Options
from upstream_elp.base.errors import ElpError
from upstream_elp.base.folders import list_files, look
from upstream_elp.commands.check import check
from upstream_elp.corpora import voxceleb1
from upstream_elp.host import literal
from upstream_elp.host.mend import length_cache
from upstream_elp.run import run

CLOSED = [
    ("elp_asr", "train-clean-100/101", "train"),
    ("elp_asr", "test-clean/300/7", "test"),
    ("elp_sv", "dev/wav/id10001", "train"),
    ("elp_sv", "test/wav/id10004/video0", "test"),
    ("elp_er", "Session1/sentences/wav/Ses01F_impro01", "test"),
    ("elp_er", "Session3/dialog/EmoEvaluation", "train"),
    ("elp_ic", "wavs/speakers/testspk", "test"),
]


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ELP_DATA", str(tmp_path / "data"))
    return write_small(tmp_path / "data")


def close(folder: Path, monkeypatch: pytest.MonkeyPatch, *, really: bool) -> None:
    """Make a folder unreadable: in reality, or in the function that lists folders."""
    if really:
        folder.chmod(0)
        if os.access(folder, os.R_OK):
            pytest.skip("this user, such as root, may list every folder")
        return
    honest, target = os.scandir, os.path.realpath(folder)

    def scandir(path="."):
        if os.path.realpath(path) == target:
            raise PermissionError(13, "Permission denied", str(path))
        return honest(path)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.parametrize("really", [False, True], ids=["injected", "real"])
@pytest.mark.parametrize(("task", "folder", "split"), CLOSED)
def test_a_folder_that_cannot_be_listed_is_named_everywhere(task, folder, split, really, data, tmp_path, monkeypatch):
    """Nothing trains or scores on the rest."""
    root = data / ROOTS[task]
    flags = ["-d", task, "--data", str(data), "--device", "cpu", "-u", "wavlm_local", "-k", str(tiny_backbone())]
    monkeypatch.setattr("upstream_elp.launch.start.load_main", lambda script: pytest.fail("S3PRL was loaded"))
    close(root / folder, monkeypatch, really=really)
    try:
        message = f"{folder} cannot be listed (Permission denied)"
        report = PREPARE[task].prepare(root, tmp_path / "out", options=Options(progress=False, skip_broken=True))
        assert next(problem.text for problem in report.problems if problem.kind == "closed-folder").startswith(message)
        assert report.tables == [], "--skip-broken is for single files"
        found = survey(task).problems
        assert found[0].kind == "closed-folder" and found[0].text.startswith(message)
        assert {problem.kind for problem in found[1:]} <= {"speakers"}, "too few are left to hold out"
        result = CliRunner().invoke(check, ["-d", task, "--data", str(data), "--quick"])
        assert result.exit_code == 1 and message in result.output
        assert survey(task, split).blocking(skip_bad_files=True), "an evaluation does not start"
        for options in ([], ["--skip-bad-files"]) if split == "train" else ():
            with pytest.raises(ElpError, match=r"cannot be listed \(Permission denied\)") as caught:
                run([*flags, "-m", "train", "-p", str(tmp_path / "exp"), *options])
            assert folder in str(caught.value)
        with pytest.raises(ElpError, match=r"cannot be listed \(Permission denied\)") as caught:
            expert(task, tmp_path / "exp").dataset("test-clean" if (task, split) == ("elp_asr", "test") else split)
        assert folder in str(caught.value)
    finally:
        if really:
            (root / folder).chmod(0o755)


@pytest.mark.parametrize("task", sorted(ROOTS.keys() - {"elp_ic"}))  # whose sign is a file
def test_a_closed_corpus_is_not_called_another_one(task, data, tmp_path, monkeypatch):
    close(data / ROOTS[task], monkeypatch, really=False)
    with pytest.raises(ElpError, match="cannot be listed"):
        survey(task)


def test_a_link_to_nothing_is_a_folder_that_cannot_be_listed(data, tmp_path):
    (data / "VoxCeleb1/dev/wav/id10009").symlink_to(tmp_path / "not-mounted")
    (problem,) = survey("elp_sv").problems
    assert problem.text.startswith("dev/wav/id10009 cannot be listed (it is a link to a place that does not exist)")


LOOPS = {
    "elp_asr": [
        ("loop", "."),
        ("train-clean-100/loop", "."),
        ("train-clean-100/100/up", "../.."),
        ("test-clean/x", "300"),
    ],
    "elp_er": [("loop", "."), ("Session1/sentences/wav/loop", "."), ("Session2/sentences/wav/up", "../../..")],
    "elp_ic": [("loop", "."), ("wavs/speakers/loop", "."), ("wavs/speakers/again", "trainspk")],
    "elp_sv": [("loop", "."), ("dev/wav/loop", "."), ("dev/wav/id10000/up", "../../.."), ("test/wav/aa", "id10004")],
}


@pytest.mark.parametrize(("task", "link", "target"), [(task, *pair) for task, some in LOOPS.items() for pair in some])
def test_a_link_in_circles_changes_nothing(task, link, target, data, tmp_path):
    """Each folder is visited once, under its own name."""
    root = data / ROOTS[task]
    before, tables = items(task, tmp_path / "a"), PREPARE[task].prepare(root, tmp_path / "before", options=QUICK)
    (root / link).symlink_to(target)
    assert items(task, tmp_path / "b") == before
    found = survey(task)
    assert found.problems == []
    assert {part.name: len(part.files) for part in found.parts} == {
        part: len(files) for part, files in before.items() if (task, part) != ("elp_sv", "dev")
    } | {part.name: len(part.files) for part in found.parts if (task, part.name) == ("elp_sv", "dev")}
    again = PREPARE[task].prepare(root, tmp_path / "after", options=QUICK)
    assert [path.read_text() for path in again.tables] == [path.read_text() for path in tables.tables] != []
    followed = task != "elp_ic" and link != "loop"  # the tables of IC name their files
    assert followed == any("read under another name" in remark for remark in (*found.remarks, *again.warnings))


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("task", ROOTS)
def test_a_corpus_of_links_is_a_corpus(task, level, data, tmp_path, monkeypatch):
    """The corpus, its parts, its speakers or their folders are links to other places."""
    before = items(task, tmp_path / "a")
    real, linked = data / ROOTS[task], tmp_path / "links" / ROOTS[task]
    linked.parent.mkdir()
    if level == 0:
        linked.symlink_to(real)
    for folder, folders, files in os.walk(real):
        here = linked / Path(folder).relative_to(real)
        depth = len(here.relative_to(linked).parts)
        if level and depth < level:
            here.mkdir(exist_ok=True)
            for name in files:
                shutil.copy(Path(folder, name), here / name)
            if depth == level - 1:
                for name in folders:
                    (here / name).symlink_to(Path(folder, name))
        if depth >= level - 1:
            folders.clear()
    monkeypatch.setenv("ELP_DATA", str(linked.parent))
    assert items(task, tmp_path / "b") == before and survey(task).problems == []


@pytest.mark.parametrize(
    "stray", ["extra/id10001/video0/00001.wav", "id10001/deep/er/00001.wav", "00001.wav", "notes/"]
)
def test_speakers_are_those_with_utterances(stray, data, tmp_path):
    """A folder with audio at another depth, or without any, is never a class."""
    top = data / "VoxCeleb1/dev/wav"
    before = expert("elp_sv", tmp_path / "a")
    if stray.endswith("/"):
        (top / stray).mkdir()
    else:
        toy_corpora.write_wav(top / stray, toy_corpora.tone(seconds=0.7))
    after, found = expert("elp_sv", tmp_path / "b"), survey("elp_sv")
    assert after.corpus.speakers == before.corpus.speakers and after.corpus.held_out == before.corpus.held_out
    assert after.objective.fc.out_features == len(before.corpus.speakers)
    assert set(found.parts[0].classes) == set(before.corpus.speakers)
    assert {problem.kind for problem in found.problems} <= {"misplaced", "empty-speaker"} and found.problems
    assert found.blocking() == [], "it harms no run"
    report = voxceleb1.prepare(data / "VoxCeleb1", tmp_path / "out", options=QUICK)
    assert report.splits[0].speakers == 4 and report.tables == [], "S3PRL's own task would count it"
    assert not any("remove" in problem.text for problem in report.problems)


def test_one_walk(tmp_path):
    for name in ("b/2.WAV", "b/1.wav", "a/3.wav", "a/.hidden/4.wav", "a/._5.wav", "6.wav", "c.wav/7.wav", "d/8.mp3"):
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).touch()
    (tmp_path / "x" / "a" / "top").symlink_to(tmp_path / "x")
    (tmp_path / "x" / "0").symlink_to("b")
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "9.wav").touch()
    (tmp_path / "x" / "z").symlink_to(tmp_path / "y")
    tree = look(tmp_path / "x", root=tmp_path, suffix=".wav")
    names = ["6.wav", "a/3.wav", "b/1.wav", "b/2.WAV", "c.wav/7.wav", "z/9.wav"]
    assert tree.files == [f"x/{name}" for name in names]
    assert list_files(tmp_path / "x", root=tmp_path / "x", suffix=".wav") == names
    assert tree.folders == ["0", "a", "b", "c.wav", "d", "z"] and tree.again == ["x/0", "x/a/top"] and not tree.closed
    assert look(tmp_path / "none", root=tmp_path, suffix=".wav").files == []


def test_the_stock_tasks_cache_of_lengths(data, monkeypatch):
    """It follows links, and reports folders that cannot be listed."""
    top = data / "VoxCeleb1/dev/wav"
    (data / "more/video").mkdir(parents=True)
    (top / "id10009").symlink_to(data / "more")
    before = length_cache(top, "dev")
    (data / "more/video/00001.wav").write_bytes(b"x")
    assert length_cache(top, "dev") != before
    (top / "loop").symlink_to(".")
    length_cache(top, "dev")
    close(top / "id10001", monkeypatch, really=False)
    with pytest.raises(ElpError, match=r"id10001 cannot be listed"):
        length_cache(top, "dev")


def test_a_place_that_may_not_be_looked_at_is_one_sentence(monkeypatch, capsys, data):
    """For example a folder of corpora that belongs to another user."""

    def closed(path, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", closed)
    with pytest.raises(SystemExit) as caught, cli.errors_in_one_line():
        Path("/corpora/LibriSpeech").is_dir()
    assert caught.value.code == 2
    message = "elp: error: /corpora/LibriSpeech cannot be opened (Permission denied); check its permissions"
    assert capsys.readouterr().err.startswith(message)


def test_s3prls_own_sv_task_reads_links_and_names_closed_folders(data, tmp_path, monkeypatch):
    wavs = data / "VoxCeleb1" / "dev" / "wav"
    before = literal.audio_files(wavs)
    (wavs / "id19999").symlink_to(wavs / "id10001", target_is_directory=True)
    elsewhere = shutil.copytree(wavs / "id10001", tmp_path / "elsewhere")
    (wavs / "id18888").symlink_to(elsewhere, target_is_directory=True)
    found = literal.audio_files(wavs)
    assert [path for path in found if "id18888" not in path] == before, "a second name of a folder is not read again"
    assert len(found) == len(before) + len(list(elsewhere.rglob("*.wav")))
    close(wavs / "id10001", monkeypatch, really=False)
    with pytest.raises(ElpError, match=r"dev/wav/id10001 cannot be listed \(Permission denied\)"):
        literal.audio_files(wavs)
