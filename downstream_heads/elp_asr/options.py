"""The options in this task's data block."""

from collections.abc import Mapping
from typing import Any

from downstream_heads.common.batching import BATCH_DEFAULTS, check_batch_options
from downstream_heads.common.size import SIZE_DEFAULTS, check_size
from downstream_heads.elp_asr.about import TASK
from downstream_heads.elp_asr.characters import SPECIALS
from upstream_elp.audio.reading import CHANNEL_RULES
from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import boolean, check_paths, choose, mapping, positive_int, read_options, wrong_value

WHERE = "downstream_expert.datarc"
DATA_DEFAULTS = {
    "root": None,
    "libri_root": None,
    "bucket_file": None,
    "dict_path": None,
    "symbols": "fairseq",
    "train": ["train-clean-100"],
    "dev-clean": ["dev-clean"],
    "dev-other": ["dev-other"],
    "test-clean": ["test-clean"],
    "test-other": ["test-other"],
    "num_workers": 0,
    "batch_size": 32,
    "eval_batch_size": 1,
    "zero_infinity": True,
    "protocol": "superb",
    "best_by": "wer",
    "pre_load": False,
    "resample": False,
    "normalize": False,
    "channels": "error",
    "decoder_args": None,
    **BATCH_DEFAULTS,
    **SIZE_DEFAULTS,
}


def data_options(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked data block.

    Raises:
        ElpError: an unknown key or a wrong value.
    """
    # S3PRL's config contains train_batch_size but never reads it
    rc = read_options(block, DATA_DEFAULTS, where=WHERE, ignored=("train_batch_size",))
    for key, least in (("num_workers", 0), ("batch_size", 1), ("eval_batch_size", 1)):
        positive_int(rc[key], key=f"{WHERE}.{key}", least=least)
    for key in ("zero_infinity", "pre_load", "resample", "normalize"):
        boolean(rc[key], key=f"{WHERE}.{key}")
    check_batch_options(rc, where=WHERE)
    check_size(rc, where=WHERE)
    check_paths(rc, ("root", "libri_root", "bucket_file", "dict_path"), where=WHERE)
    for split in TASK.splits:
        if rc[split]:  # an unused split may be empty
            folders_of(rc, split)
    choose(rc["protocol"], ("superb", "plain"), key=f"{WHERE}.protocol")
    choose(rc["best_by"], ("wer", "uer"), key=f"{WHERE}.best_by")
    choose(rc["symbols"], SPECIALS, key=f"{WHERE}.symbols")
    choose(rc["channels"], CHANNEL_RULES, key=f"{WHERE}.channels")
    decoder = mapping(rc["decoder_args"], key=f"{WHERE}.decoder_args").get("decoder_type")
    if str(decoder).lower() != "none":
        raise ElpError(f"elp_asr only decodes greedily; for the decoder {decoder} use S3PRL's own task (-d asr)")
    return rc


def folders_of(datarc: Mapping[str, Any], split: str) -> list[str]:
    """Return the corpus parts of a split; it is an error if the config names none."""
    folders = datarc[split]
    folders = [folders] if isinstance(folders, str) else folders
    if not folders or not isinstance(folders, list | tuple) or not all(isinstance(folder, str) for folder in folders):
        raise wrong_value(datarc[split], f"a list of folders of the corpus, such as [{split}]", key=f"{WHERE}.{split}")
    return list(folders)
