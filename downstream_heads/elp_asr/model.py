"""The two ASR heads.

``superb``: projection and S3PRL's ``RNNs`` (downstream/asr/model.py:74), bidirectional LSTM layers and a linear layer.
``linear``: one linear layer to characters, the head of the L-E reference. Both use the same CTC loss, the mean over
utterances of loss / label length (Hugging Face's ``ctc_loss_reduction`` ``mean``, torch's ``reduction="mean"``). Their
labels differ: S3PRL ends every transcript with a word end and ``</s>``, the reference with the last character.

The protocols of the papers also differ: SUPERB trains on train-clean-100 for 200,000 steps of 16 utterances with masked
features, chooses the best checkpoint on dev-clean and tests on test-clean; the L-E reference trains on Libri-light's
10 hours for 100 epochs with batch size 8, takes the last checkpoint and uses dev-clean as its test set.
"""

from collections.abc import Mapping
from typing import Any

from s3prl.downstream.asr.model import RNNs
from torch import Tensor, nn

from downstream_heads.elp_asr.recurrent import PaddedLSTM
from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import boolean, check_list, choose, number, positive_int, read_options, wrong_value

WHERE = "downstream_expert.modelrc"
RNN_DEFAULTS: dict[str, Any] = {
    "total_rate": -1,
    "module": "LSTM",
    "bidirection": True,
    "dim": [1024, 1024],
    "dropout": [0.2, 0.2],
    "layer_norm": [False, False],
    "proj": [False, False],
    "sample_rate": [1, 1],
    "sample_style": "concat",
}
MODEL_DEFAULTS = {"head": "superb", "project_dim": 1024, "select": "RNNs", "RNNs": None}


class RecurrentHead(RNNs):
    """SUPERB's ASR head after the projector: S3PRL's own, with an error where that one fails or has no output.

    Its LSTM layers are :class:`PaddedLSTM`.

    Args:
        input_dim: features per frame.
        output_dim: number of symbols.
        upstream_rate: samples per frame of the upstream.
        options: the block ``modelrc.RNNs``.
    """

    def __init__(self, input_dim: int, output_dim: int, *, upstream_rate: int, options: Mapping[str, Any]) -> None:
        total = options["total_rate"]
        if total != -1 and round(total / upstream_rate) < 1:
            must = f"-1 or at least the upstream's rate of {upstream_rate}"
            raise wrong_value(total, must, key=f"{WHERE}.RNNs.total_rate")
        super().__init__(input_dim, output_dim, upstream_rate, **options)
        for rnn in self.rnns:
            if isinstance(rnn.layer, nn.LSTM):
                rnn.layer = PaddedLSTM.replacing(rnn.layer)

    def forward(self, hidden: Tensor, frames_len: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(batch, frames, dim)`` and lengths on the CPU to logits ``(batch, frames, symbols)`` and lengths."""
        if frames_len.min() < self.sample_rate:
            raise ElpError(f"an utterance has no frame left; lower {WHERE}.RNNs.total_rate or remove very short audio")
        return super().forward(hidden, frames_len)


class LinearHead(nn.Module):
    """A linear layer to characters, without a projector."""

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__()
        self.lm_head = nn.Linear(input_dim, output_dim)

    def forward(self, hidden: Tensor, frames_len: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(batch, frames, dim)`` and lengths to logits ``(batch, frames, symbols)`` and lengths."""
        return self.lm_head(hidden), frames_len


def _check_rnn(options: Mapping[str, Any]) -> None:
    """Check the types of the values in the block ``modelrc.RNNs``."""
    where = f"{WHERE}.RNNs"
    boolean(options["bidirection"], key=f"{where}.bidirection")
    number(options["total_rate"], key=f"{where}.total_rate", least=-1)
    for key in ("dim", "sample_rate"):
        check_list(options[key], positive_int, key=f"{where}.{key}")
    for key in ("layer_norm", "proj"):
        check_list(options[key], boolean, key=f"{where}.{key}")
    check_list(options["dropout"], number, key=f"{where}.dropout", least=0, below=1)


def head_options(modelrc: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked block ``modelrc``, reduced to what the chosen head uses, with defaults filled in.

    Raises:
        ElpError: an unknown key or value.
    """
    options = read_options(modelrc, MODEL_DEFAULTS, where=WHERE, ignored=("Wav2Letter",))
    if choose(options["head"], ("superb", "linear"), key=f"{WHERE}.head") == "linear":
        return {"head": "linear"}
    choose(options["select"], ("RNNs",), key=f"{WHERE}.select")
    rnn = read_options(options["RNNs"], RNN_DEFAULTS, where=f"{WHERE}.RNNs")
    _check_rnn(rnn)
    rnn["module"] = choose(str(rnn["module"]).upper(), ("LSTM", "GRU"), key=f"{WHERE}.RNNs.module")
    choose(rnn["sample_style"], ("concat", "drop"), key=f"{WHERE}.RNNs.sample_style")
    sizes = {key: len(rnn[key]) for key in ("dim", "dropout", "layer_norm", "sample_rate", "proj")}
    if len(set(sizes.values())) != 1 or not rnn["dim"]:
        raise ElpError(f"config key {WHERE}.RNNs must have one value per layer in each of its lists, but has {sizes}")
    positive_int(options["project_dim"], key=f"{WHERE}.project_dim")
    return {**options, "RNNs": rnn}


def build_head(
    modelrc: Mapping[str, Any], upstream_dim: int, upstream_rate: int, symbols: int
) -> tuple[nn.Module, nn.Module, str]:
    """Build ``(projector, model, head name)`` from ``modelrc``; the projector is an identity for ``linear``.

    Raises:
        ElpError: an unknown key or value.
    """
    options = head_options(modelrc)
    if options["head"] == "linear":
        return nn.Identity(), LinearHead(upstream_dim, symbols), "linear"
    dim = options["project_dim"]
    projector = nn.Linear(upstream_dim, dim)
    return projector, RecurrentHead(dim, symbols, upstream_rate=upstream_rate, options=options["RNNs"]), "superb"
