"""Tiny backbones with another stride or receptive field."""

import upstream_elp
from tests.toys import TINY_CONV
from upstream_elp.mini.backbone import write_backbone

CONVS = {
    "25 frames per second": (*TINY_CONV[:-1], (16, 4, 4)),
    "100 frames per second": (*TINY_CONV[:-1], (16, 1, 1)),
    "other kernels": ((8, 8, 4), (16, 9, 8), (16, 7, 5)),
}


def backbone(tmp_path, family, conv):
    """A tiny backbone with a layer-norm front end, so that only the host's mask lets padding in."""
    options = {"layers": 2, "dim": 32, "heads": 4, "conv_pos": 16, "conv_pos_groups": 4, "targets": 20}
    options |= {"conv_pos_depth": 5 if family == "data2vec" else 1, "extractor_mode": "layer_norm"}
    upstream_elp.register()  # transformers imports torchaudio
    return write_backbone(tmp_path / "backbone", family=family, conv=conv, **options)
