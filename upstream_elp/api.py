"""The functions of the package; each imports what it needs when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import torch

    from upstream_elp.adapters.config import AdapterConfig
    from upstream_elp.inference import TrainedModel
    from upstream_elp.upstream.adapted_model import AdaptedModel
    from upstream_elp.upstream.expert import ElpExpert
    from upstream_elp.upstream.switching import AdapterSwitch


def adapt(
    model: torch.nn.Module,
    config: str | os.PathLike | Mapping[str, Any] | AdapterConfig = "elp",
    *,
    name: str | None = None,
    check: bool = True,
) -> AdaptedModel | ElpExpert:
    """Put adapters into a model of transformers or an expert of S3PRL's, for a training loop of your own.

    Example::

        model = upstream_elp.adapt(transformers.WavLMForCTC.from_pretrained("microsoft/wavlm-base-plus"), "e_only")
        print(model.summary())
        optimizer = torch.optim.AdamW(model.parameter_groups(lr=1e-3, e_adapter=1e-4))
        ...  # a loop as for the plain model, or transformers.Trainer
        model.save_adapter("adapters/mine")

    The model is changed in place: its backbone is frozen, and what stands outside the backbone stays as trainable as it
    was. The result keeps the model's forward and adds `adapter_parameters`, `parameter_groups`, `save_adapter`,
    `load_adapter`, `summary`, `enabled`, `adapters_off`, and for models of transformers `features`.

    Args:
        model: a WavLM, HuBERT or wav2vec 2.0 of transformers, bare or with a head, or a module that holds one; or an
            expert, as S3PRL's hub returns it.
        config: name of a preset, path of a YAML file, mapping, or an adapter folder, which is loaded as well.
        name: name of the backbone to record in adapter folders; by default the one that transformers downloaded.
        check: whether to check that every tensor is reached and that the adapters can be switched off.

    Raises:
        ElpError: a model or a configuration that cannot be used together, or a failed check.
    """
    from upstream_elp.upstream.adapting import adapt as put_in

    return put_in(model, config, name=name, check=check)


def register() -> None:
    """Add our upstreams, downstreams and optimizers to S3PRL, in this process, once.

    Raises:
        ElpError: if S3PRL already has one of our names from somewhere else, or is not a version we support.
    """
    from upstream_elp.launch.registry import register as install

    install()


def load(
    place: str | os.PathLike,
    *,
    backbone: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    resample: bool = False,
    channels: str | None = None,
    precision: str | None = None,
) -> TrainedModel:
    """Load what was trained for one of the four tasks; called with a file, the result gives its answer.

    Example::

        import upstream_elp

        model = upstream_elp.load("adapters/asr", backbone="wavlm_base_plus.pt")
        print(model("speech.wav"))

    Args:
        place: an exported folder with a head, an experiment directory, or a checkpoint.
        backbone: the backbone's checkpoint (path or URL) or a place in Hugging Face's format; default for a folder
            ``$ELP_BACKBONE``, then the hub name that it records, and otherwise where training found it.
        device: ``cpu``, ``cuda`` or ``cuda:N``; default what the machine has.
        resample: convert files of another rate to 16 kHz also where the task's evaluation refuses them.
        channels: ``mean`` or ``first`` accept files of several channels, ``error`` refuses them; default as the task.
        precision: ``fp32``, ``bf16`` or ``fp16`` for the upstream; default that of the task's evaluation.

    Raises:
        ElpError: nothing usable there, another backbone than in training, or a damaged file.
    """
    from upstream_elp.inference import load as load_model

    return load_model(
        place, backbone=backbone, device=device, resample=resample, channels=channels, precision=precision
    )


def load_adapters(
    folders: Mapping[str, str | os.PathLike], *, backbone: str | os.PathLike | None = None, refresh: bool = False
) -> AdapterSwitch:
    """Load one backbone and several trained adapters, between which the result switches with ``use``.

    Args:
        folders: name of your choice to adapter folder; the first one is in place at the start.
        backbone: the backbone's S3PRL hub name, its checkpoint (path or URL), or a folder or ``hf:ORGANISATION/NAME``
            in Hugging Face's format; default ``$ELP_BACKBONE``, then the hub name that the folders record.
        refresh: download again what is cached.

    Raises:
        ElpError: no adapter folder there, no backbone named, or an adapter that was trained on another backbone.
    """
    from upstream_elp.upstream.switching import load_adapters as load

    return load(folders, backbone=backbone, refresh=refresh)
