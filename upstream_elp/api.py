"""The public functions of the package; each imports what it needs when it is called."""

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
    """Put adapters into a transformers model or an S3PRL expert, for your own training loop.

    Example::

        model = upstream_elp.adapt(transformers.WavLMForCTC.from_pretrained("microsoft/wavlm-base-plus"), "e_only")
        print(model.summary())
        optimizer = torch.optim.AdamW(model.parameter_groups(lr=1e-3, e_adapter=1e-4))
        ...  # the same loop as for the plain model, or transformers.Trainer
        model.save_adapter("adapters/mine")

    The model is changed in place. Its backbone is frozen; everything outside the backbone stays as trainable as it was.
    The result keeps the model's forward and adds `adapter_parameters`, `parameter_groups`, `save_adapter`,
    `load_adapter`, `summary`, `enabled`, `adapters_off` and, for transformers models, `features`.

    Args:
        model: a WavLM, HuBERT or wav2vec 2.0 model of transformers, bare or with a head, or a module that contains one;
            or an expert as returned by S3PRL's hub.
        config: a preset name, the path of a YAML file, a mapping, or an adapter folder, whose weights are loaded too.
        name: backbone name to record in adapter folders; by default the name that transformers downloaded it by.
        check: whether to check that every adapter tensor receives a gradient and that the adapters can be switched off.

    Raises:
        ElpError: the model and the configuration do not fit together, or the check failed.
    """
    from upstream_elp.upstream.adapting import adapt as put_in

    return put_in(model, config, name=name, check=check)


def find_adapted(model: torch.nn.Module) -> AdaptedModel | ElpExpert:
    """Find the upstream with adapters inside a model of another toolkit, to save or load its adapters.

    Example::

        model, _ = ASRTask.build_model_from_file("exp/config.yaml", "exp/valid.acc.ave.pth")  # in ESPnet
        upstream_elp.find_adapted(model).save_adapter("adapters/asr")

    Args:
        model: any module; one that has adapters itself is returned.

    Returns:
        The module that :func:`adapt` returned or that one of our upstreams built, with its methods
        `adapter_parameters`, `parameter_groups`, `save_adapter`, `load_adapter`, `summary` and `adapters_off`.

    Raises:
        ElpError: the model contains none, or several.
    """
    from upstream_elp.upstream.adapting import find_adapted as find

    return find(model)


def register() -> None:
    """Add our upstreams, downstreams and optimizers to S3PRL in this process; further calls have no effect.

    Raises:
        ElpError: S3PRL already has one of our names from another source, or its version is not supported.
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
    """Load a model that was trained for one of our tasks; call it with a file to get its answer.

    Example::

        import upstream_elp

        model = upstream_elp.load("adapters/asr", backbone="wavlm_base_plus.pt")
        print(model("speech.wav"))

    Args:
        place: an exported folder with a head, an experiment directory, or a checkpoint.
        backbone: the backbone's checkpoint (path or URL), or a folder or hub name in Hugging Face's format. The default
            for a folder is ``$ELP_BACKBONE``, then the hub name that the folder records; for a checkpoint it is the
            backbone's place during training.
        device: ``cpu``, ``cuda`` or ``cuda:N``; by default ``cuda`` if the machine has it.
        resample: whether to convert files with another rate to 16 kHz even where the task's evaluation refuses them.
        channels: ``mean`` or ``first`` to accept files with several channels, ``error`` to refuse them; by default as
            in the task.
        precision: ``fp32``, ``bf16`` or ``fp16`` for the upstream; by default as in the task's evaluation.

    Raises:
        ElpError: nothing usable was found there, the backbone differs from the one in training, or a file is damaged.
    """
    from upstream_elp.inference import load as load_model

    return load_model(
        place, backbone=backbone, device=device, resample=resample, channels=channels, precision=precision
    )


def load_adapters(
    folders: Mapping[str, str | os.PathLike], *, backbone: str | os.PathLike | None = None, refresh: bool = False
) -> AdapterSwitch:
    """Load one backbone and several trained adapters; the result switches between them with ``use``.

    Args:
        folders: adapter folders by a name of your choice; the first one is active at the start.
        backbone: the backbone's S3PRL hub name, its checkpoint (path or URL), or a folder or ``hf:ORGANISATION/NAME``
            in Hugging Face's format; by default ``$ELP_BACKBONE``, then the hub name that the folders record.
        refresh: whether to download cached files again.

    Raises:
        ElpError: a place is not an adapter folder, no backbone is named, or an adapter belongs to another backbone.
    """
    from upstream_elp.upstream.switching import load_adapters as load

    return load(folders, backbone=backbone, refresh=refresh)
