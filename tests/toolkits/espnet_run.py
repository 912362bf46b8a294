"""A training run of ESPnet's speech recognition on four noises, with one of our upstreams as its front end."""

import numpy as np
import soundfile
import yaml

TOKENS = ["<blank>", "<unk>", "a", "b", "<sos/eos>"]


def write_run(folder, backbone):
    """Write data, tokens and a config; returns the arguments of `espnet2.bin.asr_train`."""
    generator = np.random.default_rng(0)
    for split in ("train", "valid"):
        (folder / split).mkdir()
        lines = {"wav.scp": [], "text": [], "shape": []}
        for number in range(2):
            path = folder / split / f"{number}.wav"
            soundfile.write(path, 0.1 * generator.standard_normal(12000), 16000, subtype="FLOAT")
            lines["wav.scp"].append(f"{split}{number} {path}")
            lines["text"].append(f"{split}{number} ab")
            lines["shape"].append(f"{split}{number} 12000")
        for name, content in lines.items():
            (folder / split / name).write_text("".join(f"{line}\n" for line in content))
    (folder / "tokens.txt").write_text("".join(f"{token}\n" for token in TOKENS))
    front = {"upstream": "elp_custom", "path_or_url": backbone, "extra_conf": {"model_config": "le"}}
    config = {
        "frontend": "s3prl",
        "frontend_conf": {"frontend_conf": front, "multilayer_feature": True},
        "encoder": "rnn",
        "encoder_conf": {"rnn_type": "lstm", "hidden_size": 8, "output_size": 8, "num_layers": 1, "subsample": [1]},
        "decoder": "rnn",
        "decoder_conf": {"hidden_size": 8, "num_layers": 1},
        "model_conf": {"ctc_weight": 1.0, "extract_feats_in_collect_stats": False},
        "normalize": None,
        "optim": "adam",
        "optim_conf": {"lr": 0.01},
        "batch_type": "unsorted",
        "batch_size": 2,
        "max_epoch": 2,
        "num_workers": 0,
        "num_att_plot": 0,
        "use_tensorboard": False,
        "use_matplotlib": False,
        "keep_nbest_models": 2,
        "best_model_criterion": [["valid", "loss", "min"]],
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(config))
    arguments = ["--config", str(folder / "train.yaml"), "--output_dir", str(folder / "exp"), "--ngpu", "0"]
    arguments += ["--token_type", "char", "--token_list", str(folder / "tokens.txt")]
    for split in ("train", "valid"):
        for name, kind, form in (("wav.scp", "speech", "sound"), ("text", "text", "text")):
            arguments += [f"--{split}_data_path_and_name_and_type", f"{folder / split / name},{kind},{form}"]
        arguments += [f"--{split}_shape_file", str(folder / split / "shape")]
    return arguments
