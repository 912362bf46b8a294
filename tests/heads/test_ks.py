"""Keyword spotting: splits, balanced draws, silence, level, and S3PRL's own task on the same files."""

import shutil
import sys
from collections import Counter, defaultdict
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch

from downstream_heads.elp_ks.about import TASK
from downstream_heads.elp_ks.data import Clip, Keywords, draw
from tests import toy_corpora
from tests.task_tools import DIM, Scalars, fake_features, make_expert, names_in, packaged_config
from upstream_elp.audio.headers import Options
from upstream_elp.base.errors import ElpError
from upstream_elp.corpora.speech_commands import CLASSES, SILENCE, UNKNOWN, Row
from upstream_elp.launch.data import examine


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    return toy_corpora.speech_commands(tmp_path / "data", speakers=(3, 2, 1))


def make(tmp_path, **more):
    return make_expert("elp_ks", tmp_path / "exp", **more)


def look(*splits, **datarc):
    config = packaged_config("elp_ks")
    config["downstream_expert"]["datarc"].update(datarc)
    return examine("elp_ks", config, splits=splits, options=Options(jobs=1, progress=False)).survey


# splits ------------------------------------------------------------------------------------------------------------


def test_the_lists_make_the_splits(root, tmp_path):
    expert = make(tmp_path)
    files = {split: expert.dataset(split).files() for split in TASK.splits}
    listed = {name: set((root / f"{name}_list.txt").read_text().split()) for name in ("validation", "testing")}
    words = {
        split: [path for path in paths if "_background_noise_" not in path.parts] for split, paths in files.items()
    }
    assert {path.relative_to(root).as_posix() for path in words["dev"]} == listed["validation"]
    trained = {path.relative_to(root).as_posix() for path in words["train"]}
    assert len(trained) == 33 and not trained & (listed["validation"] | listed["testing"])
    noise = sorted((root / "_background_noise_").iterdir())
    assert all(sorted(set(files[split]) - set(words[split])) == noise for split in ("train", "dev"))
    assert {path.resolve().parents[1].name for path in files["test"]} == {"speech_commands_test_set_v0.01"}
    labels = Counter(row.label for row in expert.dataset("train").rows)
    assert labels == {**dict.fromkeys(CLASSES, 3), SILENCE: 2} and UNKNOWN in labels


def test_check_and_the_task_see_the_same_files(root, tmp_path):
    found, expert = look(), make(tmp_path)
    assert found.problems == [] and [part.name for part in found.parts] == list(TASK.splits)
    for part in found.parts:
        assert sorted(root / file for file in part.files) == sorted(expert.dataset(part.name).files())
        assert set(part.classes) == set(CLASSES)
    assert [len(set(part.speakers)) for part in found.parts] == [3, 2, 12]


def test_s3prls_names_of_the_folders(root, tmp_path, monkeypatch):
    monkeypatch.delenv("ELP_DATA")
    elsewhere = shutil.move(root.parent / "speech_commands_test_set_v0.01", tmp_path / "far" / "test")
    theirs = {"speech_commands_root": str(root), "speech_commands_test_root": str(elsewhere)}
    for datarc in (theirs, {"root": str(root), "test_root": str(elsewhere)}):
        paths = make(tmp_path, datarc=datarc).dataset("test").files()
        assert len(paths) == 12 and all(path.is_file() for path in paths)
        assert look("test", **datarc).problems == []


# draws -------------------------------------------------------------------------------------------------------------


def test_classes_are_equally_likely_and_draws_repeat():
    sizes = {"yes": 900, "no": 90, "up": 10}
    rows = [Row(f"{label}/{number}.wav", label) for label in sizes for number in range(sizes[label])]
    clips = draw(rows, seed=3)
    counts = Counter(clip.row.label for clip in clips)
    assert len(clips) == 1000 and counts.keys() == {"yes", "no", "up"}
    assert all(abs(count - 1000 / 3) < 5 * (1000 * 2 / 9) ** 0.5 for count in counts.values())
    assert clips == draw(rows, seed=3) != draw(rows, seed=4)
    starts = [clip.start for clip in clips]
    assert 0 <= min(starts) < 0.01 and 0.99 < max(starts) <= 1


def test_epochs_differ_and_dev_does_not(tmp_path):
    expert, other = make(tmp_path, seed=1), make(tmp_path, seed=2)

    def drawn(expert, split, epoch=0):
        return Counter(name for batch in expert.get_dataloader(split, epoch) for name in names_in(batch))

    assert drawn(expert, "train") == drawn(other, "train") != drawn(expert, "train", epoch=1)
    assert drawn(expert, "dev") == drawn(other, "dev", epoch=5)
    assert drawn(expert, "dev") != drawn(make(tmp_path, datarc={"draw_seed": 9}), "dev")
    assert set(drawn(expert, "test").values()) == {1} and sum(drawn(expert, "test").values()) == 12
    before = torch.get_rng_state()
    drawn(expert, "train", epoch=2)
    assert torch.equal(before, torch.get_rng_state())


def test_silence_is_a_second_of_noise(root, tmp_path):
    expert = make(tmp_path)
    path = sorted((root / "_background_noise_").iterdir())[1]
    whole, row = expert.audio(path), Row(path.relative_to(root).as_posix(), SILENCE)
    assert len(whole) == 21000
    for start, begin in ((0.0, 0), (0.5, 2500), (1.0, 5000)):
        item, label, name = Keywords(root, [row], audio=expert.audio, clips=[Clip(row, start)])[0]
        assert np.array_equal(item, whole[begin : begin + 16000].numpy())
        assert (CLASSES[label], name) == (SILENCE, f"_background_noise_-{path.name}")
    spoken = Clip(Row("yes/a.wav", "yes"), 0.5)
    assert torch.equal(spoken.cut(whole), whole), "words are not cut"


# faults ------------------------------------------------------------------------------------------------------------


def _twice(root):
    file = (root / "validation_list.txt").read_text().split()[0]
    with (root / "testing_list.txt").open("a") as stream:
        stream.write(f"{file}\n")


def _same_speaker(root):
    """Add a word of a validation speaker that is not in the list."""
    speaker = (root / "validation_list.txt").read_text().split()[0].split("/")[1].split("_")[0]
    toy_corpora.write_wav(root / "bed" / f"{speaker}_nohash_7.wav", toy_corpora.tone())


FAULTS = {
    "no list": (lambda root: (root / "testing_list.txt").unlink(), "layout", "testing_list.txt is missing"),
    "lists": (_twice, "overlap", "appears in validation_list.txt and in testing_list.txt"),
    "speaker": (_same_speaker, "speakers", "validation_list.txt shares 1 speaker with training"),
    "audio": (
        lambda root: (root / (root / "validation_list.txt").read_text().split()[3]).unlink(),
        "missing-audio",
        "is missing, but validation_list.txt lists it",
    ),
    "class": (lambda root: shutil.rmtree(root / "yes"), "classes", "train has no utterance of yes"),
    "noise": (
        lambda root: [path.unlink() for path in (root / "_background_noise_").iterdir()],
        "classes",
        "train has no utterance of _silence_",
    ),
    "no test set": (
        lambda root: shutil.rmtree(root.parent / "speech_commands_test_set_v0.01"),
        "layout",
        "speech_commands_test_set_v0.01 is missing; unpack",
    ),
    "test folder": (
        lambda root: (root.parent / "speech_commands_test_set_v0.01" / "yes").rename(
            root.parent / "speech_commands_test_set_v0.01" / "yeah"
        ),
        "label",
        "contains the folder yeah, which is not a class",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_reported_and_stops_the_task(fault, root, tmp_path):
    damage, kind, sentence = FAULTS[fault]
    damage(root)
    problems = [problem for problem in look().problems if problem.kind == kind]
    assert problems and any(sentence in problem.text for problem in problems)
    with pytest.raises(ElpError, match=r"speech_commands_v0\.01 is incomplete: "):
        expert = make(tmp_path)
        for split in TASK.splits:
            expert.dataset(split)


@pytest.mark.parametrize("option", [{"draw_seed": -1}, {"draw_seed": "a"}, {"test_root": 5}])
def test_options_are_checked(option, tmp_path):
    with pytest.raises(ElpError, match=rf"datarc\.{next(iter(option))} must be .*, but is .*"):
        make(tmp_path, datarc=option)


# S3PRL's own task --------------------------------------------------------------------------------------------------


@pytest.fixture
def stock(root, tmp_path, monkeypatch):
    """Make S3PRL's expert, without the package that it needs only for several processes."""
    from upstream_elp.host import compat

    compat.install()
    for name in ("catalyst", "catalyst.data", "catalyst.data.sampler"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["catalyst.data.sampler"].DistributedSamplerWrapper = None
    from s3prl.downstream.speech_commands.expert import DownstreamExpert

    config = packaged_config("elp_ks")["downstream_expert"]
    datarc = {"num_workers": 0, "batch_size": 32, "speech_commands_root": str(root)}
    datarc["speech_commands_test_root"] = str(root.parent / "speech_commands_test_set_v0.01")
    (tmp_path / "stock").mkdir()
    torch.manual_seed(3)
    return DownstreamExpert(DIM, {"datarc": datarc, "modelrc": config["modelrc"]}, str(tmp_path / "stock"))


def test_the_same_files_weights_and_audio_as_s3prl(stock, root, tmp_path):
    ours = make(tmp_path, seed=3)
    state = ours.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in stock.state_dict().items() if key != "best_score")
    for split in TASK.splits:
        theirs = getattr(stock, f"{split}_dataset")
        assert Counter((label, path.resolve()) for label, path in theirs.data) == Counter(
            (row.label, (root / row.path).resolve()) for row in ours.dataset(split).rows
        )
    counts = Counter(row.label for row in ours.dataset("train").rows)
    files = stock.train_dataset.data
    assert stock.train_dataset.sample_weights == [len(files) / counts[label] for label, _ in files]
    mine = {name: (wav, label) for wav, label, name in ours.dataset("test")}
    for wav, label, name in stock.test_dataset:
        assert np.array_equal(wav, mine[name][0]) and label == mine[name][1]


def test_the_same_loss_and_answer_files_as_s3prl(stock, tmp_path):
    ours = make(tmp_path)
    ours.load_state_dict({**stock.state_dict(), "best_score": ours.best_score})
    for wavs, *others in stock.get_dataloader("test"):
        others = [list(column) for column in others]
        features = fake_features([torch.as_tensor(wav) for wav in wavs])
        found = []
        for expert in (stock, ours):
            records = defaultdict(list)
            with torch.no_grad():
                found.append(expert("test", features, *others, records=records))
            expert.log_records("test", records=records, logger=Scalars(), global_step=1)
        assert torch.equal(*found)
    for name in ("test_predict.txt", "test_truth.txt"):
        assert (tmp_path / "stock" / name).read_text() == (tmp_path / "exp" / name).read_text() != ""


def test_the_level_is_superbs(root, tmp_path):
    path = next((root / "yes").iterdir())
    wav, expert = soundfile.read(path, dtype="float32")[0], make(tmp_path)
    assert np.allclose(expert.load_audio(path).numpy(), wav * 10 ** (-3 / 20), atol=1e-4)
    predictor = TASK.load("predictor")(
        upstream_dim=DIM,
        upstream_rate=320,
        modelrc=expert.modelrc,
        audio={"resample": False, "channels": "error"},
        labels=expert.label_tables(),
    )
    assert torch.equal(predictor.read(path), expert.load_audio(path))
    assert torch.equal(predictor.prepare(torch.from_numpy(wav), "wave"), expert.load_audio(path))
