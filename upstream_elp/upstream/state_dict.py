"""The state dict of the upstream: the trained tensors under canonical names, without the frozen backbone.

It is made by hooks, because a parent's ``state_dict`` and ``load_state_dict`` reach a child only through its hooks. So
it works in any loop that saves or loads the upstream, including S3PRL's stock runner.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from upstream_elp.backbones.fingerprint import HALF_PRECISION, Fingerprint
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.adapted import AdaptedModule

META = "elp_backbone_sha256"
"""Key of the backbone's fingerprint in a state dict; the value is a float tensor of 32 numbers from 0 to 255.

They are floats because toolkits average checkpoints: the mean of equal numbers is that number, whereas integers may
wrap when they are added. Earlier versions wrote uint8, which is accepted.
"""


SAMPLED = 16
"""Values of each frozen tensor, at most, by which overwriting is noticed; whoever initialises a tensor changes all."""


def install_state_hooks(expert: AdaptedModule) -> None:
    """Make ``expert.state_dict()`` contain only the trained tensors, and ``load_state_dict`` audit them key by key."""
    expert._state_dict_hooks.clear()
    expert._load_state_dict_pre_hooks.clear()
    expert._load_state_dict_post_hooks.clear()
    expert._register_state_dict_hook(_keep_trained)
    expert.register_load_state_dict_pre_hook(_load_trained)
    expert.register_load_state_dict_post_hook(forget_missing)


def install_empty_state(module: nn.Module) -> None:
    """Keep ``module`` out of checkpoints: ``state_dict`` omits it, and ``load_state_dict`` does not expect it."""
    module._register_state_dict_hook(_keep_none)
    module.register_load_state_dict_pre_hook(_load_none)
    module.register_load_state_dict_post_hook(forget_missing)


def _keep_none(_module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        del state[key]


def _load_none(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    if given := [key for key in state if key.startswith(prefix)]:
        raise ElpError(f"{type(module).__name__} has no tensors in a checkpoint, but this one contains {given[0]}")
    module._load_prefix = prefix


def _keep_trained(expert: AdaptedModule, state: dict[str, Any], prefix: str, _: Any) -> None:
    trained = {f"{prefix}{name}": state[f"{prefix}{item.path}"] for name, item in expert.injection.declared.items()}
    for key in [key for key in state if key.startswith(prefix)]:
        del state[key]
    state.update(trained)
    state[f"{prefix}{META}"] = _digest(expert.fingerprint)


def _digest(fingerprint: Fingerprint) -> torch.Tensor:
    return torch.tensor(list(bytes.fromhex(fingerprint.sha256)), dtype=torch.float32)


def frozen_sample(expert: AdaptedModule) -> torch.Tensor:
    """Return some values of each tensor that an expert does not train; unlike a fingerprint, in no time."""
    trained = {item.path for item in expert.injection.declared.values()}
    frozen = [tensor.detach() for path, tensor in expert.named_parameters() if path not in trained]
    values = [each.reshape(-1)[:: max(1, each.numel() // SAMPLED)][:SAMPLED].float().cpu() for each in frozen]
    return torch.cat(values) if values else torch.empty(0)


def _load_trained(
    expert: AdaptedModule,
    state: dict[str, Any],
    prefix: str,
    _metadata: Any,
    _strict: bool,
    _missing: list[str],
    _unexpected: list[str],
    _errors: list[str],
) -> None:
    given = {key.removeprefix(prefix): state.pop(key) for key in list(state) if key.startswith(prefix)}
    digest = given.pop(META, None)
    if digest is not None and not (torch.is_tensor(digest) and digest.tolist() == _digest(expert.fingerprint).tolist()):
        raise ElpError(
            "the adapters in this checkpoint were trained on another backbone (the fingerprints differ); "
            "pass the right one with -k or --backbone"
        )
    audit(expert, given)
    if not torch.allclose(expert.frozen, frozen_sample(expert), rtol=HALF_PRECISION, atol=1e-6):  # it may be halved
        raise ElpError(
            "the frozen weights of the backbone were overwritten after it was loaded, and a checkpoint of adapters "
            "does not contain them; build the model without initialising it again (in ESPnet: init: null)"
        )
    state.update({f"{prefix}{expert.injection.declared[name].path}": tensor for name, tensor in given.items()})
    expert.trained = True
    expert._load_prefix = prefix


def forget_missing(expert: nn.Module, incompatible: Any) -> None:
    """Do not report frozen tensors as missing: they are never saved, and the trained ones were audited before."""
    prefix = expert.__dict__.pop("_load_prefix", "")
    incompatible.missing_keys[:] = [key for key in incompatible.missing_keys if not key.startswith(prefix)]


def audit(expert: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Check names and shapes of trained tensors against what an expert declares.

    Raises:
        ElpError: keys are missing, unknown, or have another shape or type; the message names the first ones.
    """
    expected = expert.injection.parameters(expert)
    missing = [name for name in expected if name not in tensors]
    unknown = [name for name in tensors if name not in expected]
    for problem, names in (("lacks", missing), ("contains the unknown", unknown)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            found = ", ".join(str(name)[:100] for name in names[:3])
            raise ElpError(
                f"the checkpoint {problem} tensors {found}{more}: it was made with another adapter "
                f"configuration than {expert.config.name!r}"
            )
    for name, parameter in expected.items():
        if not isinstance(tensors[name], torch.Tensor) or not tensors[name].is_floating_point():
            raise ElpError(
                f"the checkpoint's {name} does not contain floating-point numbers, so it is not an adapter's tensor"
            )
        if tensors[name].shape != parameter.shape:
            raise ElpError(
                f"the checkpoint's {name} has the shape {tuple(tensors[name].shape)}, but this configuration needs "
                f"{tuple(parameter.shape)}"
            )
