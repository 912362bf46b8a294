"""Configs for S3PRL's stock tasks on toy corpora, since S3PRL's wheel does not contain any."""

import hashlib
import itertools
import json
import re
import string
from pathlib import Path

import soundfile
import yaml

from tests import toy_corpora
from tests.toys import tiny_backbone

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


def stock_config(task: str, root: Path, **runner) -> Path:
    """Write a small corpus and a config for a stock task; return the config's path."""
    expert, dev = _EXPERTS[task](root)
    content = {
        "runner": {
            "total_steps": 4,
            "gradient_clipping": 1,
            "gradient_accumulate_steps": 1,
            "log_step": 2,
            "eval_step": 4,
            "save_step": 2,
            "max_keep": 5,
            "eval_dataloaders": dev,
            **runner,
        },
        "optimizer": {"name": "TorchOptim", "torch_optim_name": "Adam", "lr": 1.0e-3},
        "downstream_expert": expert,
    }
    path = root / f"{task}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def stock_words(task: str, root: Path, *more: str, backbone: Path | None = None, **runner) -> list[str]:
    """Flags of ``elp run`` that train a stock task on its small corpus, with one of our upstreams."""
    config, backbone = stock_config(task, root, **runner), backbone or tiny_backbone()
    flags = ["-m", "train", "-d", task, "-u", "elp_local", "-k", str(backbone), "--device", "cpu"]
    return [*flags, "-c", str(config), "-p", str(root / "exp"), *more]


def _asr(root: Path) -> tuple[dict, list[str]]:
    libri = toy_corpora.librispeech(root)
    tables, symbols = root / "len_for_bucket", root / "char.dict"
    tables.mkdir()
    for part in ("train-clean-100", "dev-clean", "test-clean"):
        files = sorted((libri / part).rglob("*.flac"), key=lambda path: -soundfile.info(path).frames)
        rows = [f"{i},{path.relative_to(libri)},{soundfile.info(path).frames},0" for i, path in enumerate(files)]
        (tables / f"{part}.csv").write_text("\n".join([",file_path,length,label", *rows]) + "\n")
    symbols.write_text("".join(f"{symbol} 1\n" for symbol in ("|", *string.ascii_uppercase, "'")))
    rnn = {"module": "LSTM", "bidirection": True, "dim": [8], "dropout": [0.0], "layer_norm": [False], "proj": [False]}
    data = {
        "libri_root": str(libri),
        "bucket_file": str(tables),
        "dict_path": str(symbols),
        "train": ["train-clean-100"],
        "dev-clean": ["dev-clean"],
        "test-clean": ["test-clean"],
        "batch_size": 4,
        "eval_batch_size": 1,
        "num_workers": 0,
        "zero_infinity": True,
        "decoder_args": {"decoder_type": "None"},
    }
    model = {"select": "RNNs", "project_dim": 16, "RNNs": {**rnn, "sample_rate": [1], "sample_style": "concat"}}
    return {"datarc": data, "modelrc": model}, ["dev-clean"]


def _sv(root: Path) -> tuple[dict, list[str]]:
    voxceleb = toy_corpora.voxceleb1(root, train=2, test=2, videos=1, seconds=1.0)
    trials = str(voxceleb / "voxceleb1_test_v2.txt")
    data = {
        "file_path": str(voxceleb),
        "vad_config": {"min_sec": 8000},
        "train_meta_data": trials,
        "dev_meta_data": trials,
        "test_meta_data": trials,
        "max_timestep": 16000,
        "train_batch_size": 2,
        "eval_batch_size": 1,
        "num_workers": 0,
    }
    model = {
        "module": "XVector",
        "input_dim": 16,
        "agg_dim": 24,
        "agg_module": "SP",
        "utter_module": "UtteranceExtractor",
        "module_config": {"XVector": {"agg_dim": 1500, "dropout_p": 0.0, "batch_norm": False}},
        "ObjectiveLoss": "AMSoftmaxLoss",
        "LossConfig": {"AMSoftmaxLoss": {"s": 30.0, "m": 0.4}},
    }
    return {"datarc": data, "modelrc": model}, ["test"]


def _er(root: Path) -> tuple[dict, list[str]]:
    corpus = toy_corpora.iemocap(root, per_session=3)
    labels = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}
    rows = [
        {"path": str(path.relative_to(corpus)), "label": label, "speaker": "x"}
        for path, label in zip(sorted(corpus.rglob("*.wav")), [*labels] * 5, strict=True)
    ]
    meta = root / "meta_data" / "Session1"
    meta.mkdir(parents=True)
    for split, part in (("train", rows[4:]), ("test", rows[:4])):
        content = {"labels": labels, "meta_data": part}
        (meta / f"{split}_meta_data.json").write_text(json.dumps(content))
    data = {
        "root": str(corpus),
        "meta_data": str(meta.parent),
        "test_fold": "fold1",
        "pre_load": True,
        "train_batch_size": 2,
        "eval_batch_size": 2,
        "num_workers": 0,
        "valid_ratio": 0.2,
    }
    return {"datarc": data, "modelrc": _utterance_model()}, ["dev", "test"]


def _ic(root: Path) -> tuple[dict, list[str]]:
    corpus = toy_corpora.fluent_speech_commands(root)
    data = {"file_path": str(corpus), "train_batch_size": 4, "eval_batch_size": 2, "num_workers": 0}
    return {"datarc": data, "modelrc": _utterance_model()}, ["dev", "test"]


def _ks(root: Path) -> tuple[dict, list[str]]:
    train, test = root / "speech_commands", root / "speech_commands_test"
    for number, word in enumerate(WORDS):
        for speaker in [_speaker(word, valid=False), _speaker(word, valid=True)]:
            wav = toy_corpora.tone(seconds=1.0, pitch=150 + 40 * number, seed=number)
            toy_corpora.write_wav(train / word / f"{speaker}_nohash_0.wav", wav)
        toy_corpora.write_wav(test / word / "x_nohash_0.wav", toy_corpora.tone(seconds=1.0, pitch=150 + 40 * number))
    toy_corpora.write_wav(train / "_background_noise_" / "hum.wav", toy_corpora.tone(seconds=2.0))
    data = {
        "speech_commands_root": str(train),
        "speech_commands_test_root": str(test),
        "batch_size": 4,
        "num_workers": 0,
    }
    return {"datarc": data, "modelrc": _utterance_model()}, ["dev", "test"]


def _sid(root: Path) -> tuple[dict, list[str]]:
    """VoxCeleb1 with a table of the splits; S3PRL numbers the speakers from id10001."""
    voxceleb, table = root / "VoxCeleb1", []
    for speaker, number in itertools.product(range(1, 4), range(1, 4)):
        name = f"id1{speaker:04d}/video/{number:05d}.wav"
        toy_corpora.write_wav(voxceleb / "dev" / "wav" / name, toy_corpora.tone(pitch=150 + 50 * speaker, seed=number))
        table.append(f"{number} {name}\n")
    (root / "splits.txt").write_text("".join(table))
    data = {
        "file_path": str(voxceleb),
        "meta_data": str(root / "splits.txt"),
        "max_timestep": 8000,
        "train_batch_size": 3,
        "eval_batch_size": 1,
        "num_workers": 0,
    }
    return {"datarc": data, "modelrc": _utterance_model()}, ["dev"]


def _sd(root: Path) -> tuple[dict, list[str]]:
    """Mixtures of two speakers in Kaldi's form, such as LibriMix's."""
    for split in ("train", "dev", "test"):
        folder, lists = root / split, {"wav.scp": "", "segments": "", "utt2spk": "", "spk2utt": "", "reco2dur": ""}
        for number in range(2):
            rec, voices = f"mix{number}", [f"mix{number}-{name}" for name in "ab"]
            wav = toy_corpora.tone(seconds=2.0, seed=number)
            lists["wav.scp"] += f"{rec} {toy_corpora.write_wav(folder / f'{rec}.wav', wav)}\n"
            lists["reco2dur"] += f"{rec} 2.0\n"
            for voice, (start, end) in zip(voices, ((0.0, 1.2), (0.8, 2.0)), strict=True):
                lists["segments"] += f"{voice}-1 {rec} {start} {end}\n"
                lists["utt2spk"] += f"{voice}-1 {voice}\n"
                lists["spk2utt"] += f"{voice} {voice}-1\n"
        for name, text in lists.items():
            (folder / name).write_text(text)
    loaders = {f"{split}_dir": str(root / split) for split in ("train", "dev", "test")}
    expert = {
        "loaderrc": {"num_workers": 0, "train_batchsize": 2, "eval_batchsize": 1, **loaders},
        "datarc": {"chunk_size": 50, "rate": 16000, "use_last_samples": True, "label_delay": 0, "num_speakers": 2},
        "modelrc": {"rnn_layers": 1, "hidden_size": 8},
        "scorerc": {"save_predictions": True},
    }
    return expert, ["dev"]


def _qbe(root: Path) -> tuple[dict, list[str]]:
    """QUESST 2014: two queries and four documents in English, with lists of the languages."""
    lists = {"utterances": [f"Audio/doc{number}.wav" for number in range(4)]}
    lists |= {part: [f"{part}_queries/query{number}.wav" for number in range(2)] for part in ("dev", "eval")}
    for part, files in lists.items():
        for number, file in enumerate(files):
            toy_corpora.write_wav(root / "quesst" / file, toy_corpora.tone(seconds=1.0, pitch=200 + 50 * number))
        text = "".join(f"quesst14Database/{file} nnenglish\n" for file in files)
        (root / "quesst" / "scoring").mkdir(exist_ok=True)
        (root / "quesst" / "scoring" / f"language_key_{part}.lst").write_text(text)
    expert = {
        "max_workers": 1,
        "feature_normalization": True,
        "silence_frame": None,
        "datarc": {"dataset_root": str(root / "quesst"), "batch_size": 1, "num_workers": 0},
        "dtwrc": {"dist_method": "cosine_exp", "step_pattern": "asymmetric", "minmax_norm": True, "subsequence": True},
    }
    return expert, []


def _pr(root: Path) -> tuple[dict, list[str]]:
    """LibriSpeech with a lexicon whose phonemes are letters."""
    libri = toy_corpora.librispeech(root)
    words = sorted({word for sentence in toy_corpora.SENTENCES for word in sentence.split()})
    (root / "lexicon.txt").write_text("".join(f"{word} {' '.join(word)}\n" for word in words))
    (root / "phonemes.txt").write_text("".join(f"{symbol}\n" for symbol in (*string.ascii_uppercase, "'")))
    corpus = {"name": "libriphone", "path": str(libri), "lexicon": [str(root / "lexicon.txt")]}
    corpus |= {"train": ["train-clean-100"], "dev": ["dev-clean"], "test": ["test-clean"]}
    text = {"mode": "word", "vocab_file": str(root / "phonemes.txt")}
    return _ctc(corpus, text, "FrameLevel", metric=["per"]), ["dev"]


def _sf(root: Path) -> tuple[dict, list[str]]:
    """SNIPS: sentences with two slots."""
    speakers, lines = {"train": "Ivy", "valid": "Amy", "test": "Brian"}, []
    for part, speaker in speakers.items():
        for number in range(3):
            name = f"{speaker}-snips-{part}-{number}"
            wav = toy_corpora.tone(seconds=1.0, pitch=200 + 50 * number)
            toy_corpora.write_wav(root / "snips" / part / f"{name}.wav", wav)
            lines.append(f"{name} BOS PLAY SONG {['ONE', 'TWO', 'SIX'][number]} EOS\tO O O music_item O\n")
    (root / "snips" / "all.iob.snips.txt").write_text("".join(lines))
    (root / "slots.txt").write_text("O\nmusic_item\nartist")
    (root / "characters.txt").write_text("".join(f"{symbol}\n" for symbol in (" ", *string.ascii_uppercase, "'")))
    corpus = {"name": "snips", "path": str(root / "snips"), "train": ["train"], "dev": ["valid"], "test": ["test"]}
    corpus |= {f"{part}_speakers": [speaker] for part, speaker in speakers.items()}
    text = {"mode": "character-slot", "vocab_file": str(root / "characters.txt"), "slots_file": str(root / "slots.txt")}
    metrics = ["slot_type_f1", "slot_value_cer", "wer"]
    return _ctc(corpus, text, "FrameLevel", metric=metrics, higher=True), ["dev"]


def _ctc(corpus: dict, text: dict, model: str, *, metric: list[str], higher: bool = False) -> dict:
    return {
        "corpus": {**corpus, "bucketing": True, "batch_size": 2, "num_workers": 0},
        "text": text,
        "model": {"project_dim": 16, "zero_infinity": True, "select": model},
        "save_best_on": ["dev"],
        "metric_higher_better": higher,
        "metric": metric,
    }


def _speaker(word: str, *, valid: bool) -> str:
    """A speaker's name that S3PRL's hash puts into validation (below 10 %) or training (20 % and more)."""
    limit = 2**27 - 1
    for number in range(10**4):
        name = f"{word}{number}"
        share = int(hashlib.sha1(_hashed(name)).hexdigest(), 16) % (limit + 1) * 100 / limit
        if share < 10 if valid else share >= 20:
            return name
    raise AssertionError("no such name")


def _hashed(name: str) -> bytes:
    return re.sub(r"_nohash_.*$", "", f"{name}_nohash_0.wav").encode()


def _utterance_model() -> dict:
    return {"projector_dim": 16, "select": "UtteranceLevel", "UtteranceLevel": {"pooling": "MeanPooling"}}


_EXPERTS = {
    "asr": _asr,
    "sv_voxceleb1": _sv,
    "emotion": _er,
    "fluent_commands": _ic,
    "speech_commands": _ks,
    "voxceleb1": _sid,
    "diarization": _sd,
    "sd": _sd,
    "quesst14_dtw": _qbe,
    "pr": _pr,
    "sf": _sf,
}
