"""``--skip-bad-files``: unreadable files are skipped, counted and listed; without the flag they stop the run."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests import toy_corpora
from tests.audio_files import break_late
from tests.task_tools import TASKS, make_expert, names_in, run_split
from tests.toys import tiny_backbone
from upstream_elp.audio.skips import FILE, Replacing, Skips, read_skips
from upstream_elp.base.errors import AudioError, ElpError
from upstream_elp.run import run

DATARC = {
    "elp_asr": {"batch_size": 4},  # halved by the benchmark's rule
    "elp_ic": {"train_batch_size": 2},
    "elp_sv": {"min_samples": 16000},
}
#: splits that are what their folders hold, so that a file that is gone is not missed
UNLISTED = {("elp_sv", "train"), ("elp_ks", "train"), ("elp_ks", "test")}
MODELRC = {
    "elp_asr": {"head": "linear"},
    "elp_sv": {"head": "linear", "linear": {"projector_dim": 8}},
}


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ELP_DATA", str(tmp_path / "data"))
    return toy_corpora.write_all(tmp_path / "data")


@pytest.fixture
def skipping(monkeypatch):
    monkeypatch.setenv("ELP_SKIP_BAD_FILES", "1")


def make(task, folder, *, workers=0, **datarc):
    rc = {**DATARC.get(task, {}), "num_workers": workers, **datarc}
    return make_expert(task, folder, datarc=rc, modelrc=MODELRC.get(task))


def victims(expert, split: str) -> list[Path]:
    """Return the files that a pass over a split reads, in the data set's order."""
    read = {plain(name) for name in names(expert, split)}
    return [path for path in expert.dataset(split).files() if possible_names(path) & read]


def names(expert, split: str) -> list[str]:
    torch.manual_seed(5)
    return [name for batch in expert.get_dataloader(split) for name in names_in(batch)]


def plain(name: str) -> str:
    return name.replace("/", "-").removesuffix(".wav")


def possible_names(path: Path) -> set[str]:
    """Return the possible names of a file in tasks: its name, or with one or two folders."""
    return {"-".join(path.with_suffix("").parts[-depth:]) for depth in (1, 2, 3)}


@pytest.mark.parametrize("task", TASKS)
def test_without_the_flag_a_bad_file_stops_the_run_with_its_path(task, tmp_path):
    expert = make(task, tmp_path)
    path = victims(expert, "train")[1]
    break_late(path)
    with pytest.raises(AudioError, match=path.name) as caught:
        names(expert, "train")
    assert caught.value.path == str(path) and not (tmp_path / FILE).exists()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("task", TASKS)
def test_training_goes_on_without_the_file(task, workers, tmp_path, skipping):
    """There are as many batches as before, none with the file, each other item at least once; equal in two passes."""
    expert = make(task, tmp_path, workers=workers)
    files = victims(expert, "train")
    whole, batches = Counter(map(plain, names(expert, "train"))), len(expert.get_dataloader("train"))
    assert read_skips(tmp_path / FILE) == {}
    break_late(files[1])
    seen = [plain(name) for name in names(expert, "train")]
    assert set(whole) - possible_names(files[1]) == set(seen) and len(expert.get_dataloader("train")) == batches
    assert len(seen) == sum(whole.values()) - (
        task == "elp_asr"
    )  # ASR's batch becomes shorter; other tasks use a neighbour
    assert seen == [plain(name) for name in names(expert, "train")]
    ((split, path), sentence), *more = read_skips(tmp_path / FILE).items()
    assert (split, path) == ("train", str(files[1])) and "NaN" in sentence and not more, "listed once, not per epoch"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_of_only_bad_files_crashes_nothing(workers, tmp_path, skipping):
    """The next item replaces it."""
    for task, size in (("elp_asr", 2), ("elp_ic", 2)):
        expert = make(task, tmp_path / task, workers=workers)
        batch = victims(expert, "train")[:size]
        for path in batch:
            break_late(path)
        torch.manual_seed(1)
        sizes = [len(batch[0]) for batch in expert.get_dataloader("train")]
        assert len(sizes) == len(expert.get_dataloader("train")) and min(sizes) > 0
        assert len(read_skips(tmp_path / task / FILE)) == size


def test_when_nothing_is_left_the_run_stops(tmp_path, skipping):
    for task in ("elp_asr", "elp_ic"):
        expert = make(task, tmp_path / task)
        for split, message in (("train", "none of the .* training items"), ("dev", "none of the items")):
            for path in victims(expert, split):
                break_late(path)
            with pytest.raises(ElpError, match=message):
                names(expert, split)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("task", TASKS)
def test_evaluation_counts_what_it_leaves_out(task, workers, tmp_path, skipping, capsys):
    """No item counts twice, and the metrics line says how many files were skipped; a repaired file counts again."""
    expert = make(task, tmp_path, workers=workers).eval()
    files = victims(expert, "test")
    content = files[0].read_bytes()
    run_split(expert, "test")
    break_late(files[0])
    run_split(expert, "test")
    files[0].write_bytes(content)
    run_split(expert, "test")
    before, without, after = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert (before["skipped"], without["skipped"], after["skipped"]) == (0, 1, 0)
    lost = 7 if task == "elp_sv" else 1  # trials of that utterance with the seven others
    assert before["items"] - without["items"] == lost and after["items"] == before["items"]
    assert capsys.readouterr().out.count("WITHOUT 1 file that cannot be used") == 1


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("fault", ["missing", "empty"])
def test_faults_known_before_the_first_step(task, fault, tmp_path, skipping):
    """They remain in the list through every evaluation."""
    for split in ("train", "test"):
        whole = make(task, tmp_path / "whole")
        path = victims(whole, split)[0]
        path.unlink()
        if fault == "empty":
            path.write_bytes(b"")
        expert = make(task, tmp_path / split).eval()
        for _ in range(2):
            assert not possible_names(path) & {plain(name) for name in names(expert, split)}
        listed = {path for _, path in read_skips(tmp_path / split / FILE)}
        gone = (task, split) in UNLISTED and fault == "missing"
        assert (str(path) in listed) == (not gone)


def test_the_list_is_shared_by_processes_and_kept_per_split(tmp_path):
    one, two = Skips(tmp_path), Skips(tmp_path)
    for skips in (one, two, one):
        skips.add("train", AudioError("a.wav is\tbad", "a.wav"))
    one.add("dev", AudioError("b.wav is bad", "b.wav"))
    two.add("dev", AudioError("c.wav is gone", "c.wav"), lasting=True)
    assert (one.count("train"), two.count("dev")) == (1, 2)
    two.restart("dev")
    assert read_skips(tmp_path / FILE) == {
        ("train", "a.wav"): "a.wav is bad",
        ("dev", "c.wav"): "c.wav is gone",
    }
    two.add("dev", AudioError("b.wav is bad", "b.wav"))
    assert one.count("dev") == 2


def test_the_next_usable_item_stands_in(tmp_path):
    class Items:
        def __len__(self):
            return 4

        def __getitem__(self, index):
            if index in (1, 3):
                raise AudioError(f"{index} is bad", str(index))
            return index

    assert [Replacing(Items(), Skips(tmp_path).of("train"))[index] for index in range(4)] == [0, 2, 2, 0]


def test_a_run_with_the_flag(data, tmp_path, capsys):
    """Missing, cut and damaged files are skipped in training and evaluation, and counted at the end."""
    root = data / "fluent_speech_commands_dataset" / "wavs" / "speakers"
    exp = tmp_path / "exp"
    flags = ["-d", "elp_ic", "--data", str(data), "--device", "cpu"]
    fresh = [*flags, "-m", "train", "-p", str(exp), "-u", "wavlm_local", "-k", str(tiny_backbone())]
    steps = {"total_steps": 4, "eval_step": 2, "save_step": 2, "log_step": 2, "gradient_accumulate_steps": 1}
    options = ",,".join(f"config.runner.{key}={value}" for key, value in steps.items())
    fresh += ["-o", f"{options},,config.downstream_expert.datarc.num_workers=0"]
    (root / "trainspk" / "train-001.wav").unlink()
    break_late(root / "trainspk" / "train-002.wav")
    whole = (root / "validspk" / "valid-001.wav").read_bytes()
    (root / "validspk" / "valid-001.wav").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ElpError, match=r"2 problems .*train-001\.wav.*valid-001\.wav"):
        run(fresh)
    run([*fresh, "--skip-bad-files"])
    lines = [json.loads(line) for line in (exp / "metrics.jsonl").read_text().splitlines()]
    assert {(line["split"], line["skipped"]) for line in lines} == {("train", 2), ("dev", 1)}
    assert {line["items"] for line in lines if line["split"] == "dev"} == {3}
    results = json.loads((exp / "results.json").read_text())
    assert (results["skipped_files"], results["command"]) == (3, ["elp", "run", *fresh, "--skip-bad-files"])
    assert f"WARNING: 3 files could not be used and were skipped; they are listed in {exp / FILE}" in (
        capsys.readouterr().err
    )
