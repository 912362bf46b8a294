"""Own data from other tools' formats, with these tools' real packages; skipped where they are not installed."""

import json
import re
import sys
from pathlib import Path

import pytest

from tests import toy_corpora
from tests.programs import call
from upstream_elp.audio.reading import audio_length
from upstream_elp.corpora import manifest

ROOT = Path(__file__).parents[2]
SPLITS = {"train": "train", "dev": "dev", "test": "test"}
CONVERT = [sys.executable, str(ROOT / "recipes" / "prepare" / "from_datasets.py")]


def _waves(folder, count=4):
    return [
        str(toy_corpora.write_wav(folder / f"{number}.wav", toy_corpora.tone(seed=number))) for number in range(count)
    ]


def _saved(tmp_path, *, embedded):
    """A data set with two splits; a column has the audio, which `save_to_disk` embeds, or only paths as text."""
    datasets = pytest.importorskip("datasets")
    files = _waves(tmp_path / "waves")
    text, label = datasets.Value("string"), datasets.ClassLabel(names=["question", "statement"])
    sound = {"bytes": datasets.Value("binary"), "path": text} if embedded else text
    features = datasets.Features({"sound": sound, "said": text, "kind": label, "who": datasets.Value("int64")})

    def part(numbers):
        places = [files[number] for number in numbers]
        sounds = [{"path": place, "bytes": Path(place).read_bytes()} for place in places] if embedded else places
        rows = {"sound": sounds, "said": ["wó ist", "dort"], "kind": [0, 1], "who": [7, 8]}
        made = datasets.Dataset.from_dict(rows, features=features)
        return made.cast_column("sound", datasets.Audio()) if embedded else made  # Audio() encodes with torchcodec

    datasets.DatasetDict({"train": part([0, 1]), "validation": part([2, 3])}).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved", files


WORDS = ["--audio", "sound", "--text", "said", "--label", "kind", "--speaker", "who"]


@pytest.mark.parametrize("embedded", [True, False])
def test_a_folder_of_datasets_becomes_a_manifest(embedded, tmp_path):
    saved, files = _saved(tmp_path, embedded=embedded)
    done = call([*CONVERT, str(saved), str(tmp_path / "out"), *WORDS])
    assert done.returncode == 0 and "manifest.jsonl: 4 rows" in done.stdout, done.stderr
    own = manifest.read(
        tmp_path / "out" / "manifest.jsonl", splits=SPLITS, needed=["train", "dev"], labels=["kind"], columns=["text"]
    )
    assert own.problems == []
    assert [(row.split, row.text, row.label, row.speaker) for row in own.rows] == [
        (split, *values)
        for split in ("train", "dev")
        for values in (("wó ist", "question", "7"), ("dort", "statement", "8"))
    ]
    for row, file in zip(own.rows, files, strict=True):
        assert (own.root / row.path).read_bytes() == Path(file).read_bytes()
        assert row.path.startswith("audio/") == embedded


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--audio", "audio"], "train has no column audio; its columns are sound, said, kind, who"),
        (["--audio", "sound", "--text", "words"], "train has no column words"),
    ],
)
def test_wrong_columns_are_named(words, sentence, tmp_path):
    saved, _ = _saved(tmp_path, embedded=True)
    done = call([*CONVERT, str(saved), str(tmp_path / "out"), *words])
    assert done.returncode == 1 and sentence in done.stderr and not (tmp_path / "out").exists()


def test_the_pages_conversion_of_lhotse_cuts(tmp_path, monkeypatch):
    """The block of docs/own-data.md, as it is."""
    lhotse = pytest.importorskip("lhotse")
    cuts = []
    for number, file in enumerate(_waves(tmp_path / "waves", 2)):
        recording = lhotse.Recording.from_file(file)
        said = lhotse.SupervisionSegment(
            f"s{number}", recording.id, 0.0, recording.duration, text=f"text {number}", speaker=f"who{number}"
        )
        cuts.append(lhotse.MonoCut(f"c{number}", 0.0, recording.duration, 0, [said], recording=recording))
    monkeypatch.chdir(tmp_path)
    lhotse.CutSet.from_cuts(cuts).to_file("cuts.jsonl.gz")
    page = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")
    (block,) = [text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "lhotse" in text]
    exec(compile(block, "docs/own-data.md", "exec"), {})
    rows = [json.loads(line) for line in Path("mine.jsonl").read_text().splitlines()]
    Path("split.jsonl").write_text("".join(json.dumps({**row, "split": "train"}) + "\n" for row in rows))
    own = manifest.read(tmp_path / "split.jsonl", splits=SPLITS, needed=["train"], columns=["text"])
    assert own.problems == []
    assert [(row.text, row.speaker) for row in own.rows] == [("text 0", "who0"), ("text 1", "who1")]
    assert audio_length(own.root / own.rows[0].path) == cuts[0].num_samples
