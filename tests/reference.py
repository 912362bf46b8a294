"""A slow, plain implementation of the L-E adapters and of our P-adapter, as a reference for the fast path.

Written from the published formulas (arXiv 2212.02780 and its official code: places and formulas of E and L) and
from S3PRL's module structure. It shares no code with ``upstream_elp``: adapters are dictionaries of tensors under their
canonical names, and the encoder is a loop over the stock model's own blocks.
"""

import math

import torch


def layer_norm(x, weight, bias, eps=1e-5):
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + eps) * weight + bias


def activate(x, name):
    if name == "relu":
        return x * (x > 0)
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def e_adapter(x, tensors, key, activation="gelu"):
    """x + LN(W_up act(W_down x + b_down) + b_up), if there is one called `key`."""
    if f"{key}.down.weight" not in tensors:
        return x
    t = {name: tensors[f"{key}.{name}"] for name in ("down.weight", "down.bias", "up.weight", "up.bias")}
    inner = activate(x @ t["down.weight"].T + t["down.bias"], activation)
    outer = inner @ t["up.weight"].T + t["up.bias"]
    return x + layer_norm(outer, tensors[f"{key}.norm.weight"], tensors[f"{key}.norm.bias"])


def bottleneck(x, tensors, key, activation="gelu"):
    """W_up act(W_down x + b_down) + b_up."""
    inner = activate(x @ tensors[f"{key}.down.weight"].T + tensors[f"{key}.down.bias"], activation)
    return inner @ tensors[f"{key}.up.weight"].T + tensors[f"{key}.up.bias"]


def additions(f, hidden, tensors, key, activation="gelu"):
    """What Houlsby's bottleneck and AdapterBias add to a block's output f; hidden is the second FFN matrix's input."""
    total = torch.zeros_like(f)
    if f"houlsby.{key}.down.weight" in tensors:
        total = total + bottleneck(f, tensors, f"houlsby.{key}", activation)
    if f"adapter_bias.{key}.vector" in tensors:
        weight, bias = (tensors[f"adapter_bias.{key}.alpha.{name}"] for name in ("weight", "bias"))
        seen = hidden if weight.shape[1] == hidden.shape[-1] else f
        alpha = (seen * weight[0]).sum(-1) + bias  # (batch, frames)
        total = total + alpha.unsqueeze(-1) * tensors[f"adapter_bias.{key}.vector"]
    return total


def l_adapter(x, tensors, key, activation="gelu"):
    """LN(act(W x + b))."""
    inner = activate(x @ tensors[f"{key}.projection.weight"].T + tensors[f"{key}.projection.bias"], activation)
    return layer_norm(inner, tensors[f"{key}.norm.weight"], tensors[f"{key}.norm.bias"])


def encoder_inputs(stock, wavs):
    """The input of the encoder in S3PRL's plain expert: features (batch, frames, dim), and the padding mask or None."""
    seen = {}

    def note(module, args, kwargs):
        seen.update(x=args[0].clone(), mask=kwargs["padding_mask"])

    handle = stock.model.encoder.register_forward_pre_hook(note, with_kwargs=True)
    with torch.no_grad():
        stock(wavs)
    handle.remove()
    return seen["x"], seen["mask"]


def encode(encoder, x, mask=None, tensors=None, activation="gelu"):
    """The N+1 states of an encoder in eval mode with the E-adapters and layer norms of `tensors`.

    x (batch, frames, dim), mask (batch, frames) True on padding. The sequence is never padded to a multiple of two,
    as S3PRL's HuBERT and wav2vec 2.0 do: masked frames must not matter.
    """
    tensors = tensors or {}
    if mask is not None:
        x = x * (~mask).unsqueeze(-1)
    x = x + encoder.pos_conv(x.transpose(1, 2)).transpose(1, 2)
    if not encoder.layer_norm_first:
        x = encoder.layer_norm(x)
    states, bias = [], None
    for index, layer in enumerate(encoder.layers):
        states.append(x)
        x, bias = encoder_layer(layer, x, mask, bias, tensors, index, activation)
    return [*states, encoder.layer_norm(x) if encoder.layer_norm_first else x]


def encoder_layer(layer, x, mask, bias, tensors, index, activation):
    """One layer: an E-adapter acts on a block's output after its dropout and before the residual addition."""

    layer_input = x

    def norm(name, module, value):
        key = f"layer_norm.{index}.{name}"
        weight, shift = tensors.get(f"{key}.weight", module.weight), tensors.get(f"{key}.bias", module.bias)
        return layer_norm(value, weight, shift, module.eps)

    def attend(value):
        nonlocal bias
        value = value.transpose(0, 1)  # (frames, batch, dim)
        options = {"position_bias": bias} if hasattr(layer.self_attn, "has_relative_attention_bias") else {}
        out, _, *rest = layer.self_attn(value, value, value, key_padding_mask=mask, need_weights=False, **options)
        bias = rest[0] if rest else None
        out = out.transpose(0, 1)
        added = additions(out, out, tensors, f"{index}.attention", activation)
        return e_adapter(out, tensors, f"e_adapter.{index}.attention", activation) + added

    def feed_forward(value):
        hidden = layer.activation_fn(layer.fc1(value))
        out = layer.fc2(hidden)
        added = additions(out, hidden, tensors, f"{index}.ffn", activation)
        if f"parallel.{index}.down.weight" in tensors:
            added = added + bottleneck(layer_input, tensors, f"parallel.{index}", activation)
        return e_adapter(out, tensors, f"e_adapter.{index}.ffn", activation) + added

    if layer.layer_norm_first:
        x = x + attend(norm("attention", layer.self_attn_layer_norm, x))
        return x + feed_forward(norm("ffn", layer.final_layer_norm, x)), bias
    x = norm("attention", layer.self_attn_layer_norm, x + attend(x))
    return norm("ffn", layer.final_layer_norm, x + feed_forward(x)), bias


def l_features(states, tensors, activation="gelu"):
    """L-adapters on the layers' outputs: state 0 is the encoder's input, the last one the encoder's output."""
    indices = sorted({int(name.split(".")[1]) for name in tensors if name.startswith("l_adapter.")})
    return [l_adapter(states[index + 1], tensors, f"l_adapter.{index}", activation) for index in indices]


def weighted_sum(features, weights):
    """Sum of features by softmax weights, as in SUPERB and in the L-E reference."""
    shares = torch.exp(weights) / torch.exp(weights).sum()
    return sum(share * feature for share, feature in zip(shares, features, strict=True))


def states_with_pseudo_frames(stock, wav, tensors, *, position, site):
    """States of a single utterance, with the P-adapter's vectors explicitly concatenated and dropped again."""
    x, _ = encoder_inputs(stock, [wav])
    vectors = tensors["p_adapter.vectors"]
    if site == "cnn":
        model = stock.model
        vectors = layer_norm(vectors, model.layer_norm.weight, model.layer_norm.bias, model.layer_norm.eps)
        vectors = vectors @ model.post_extract_proj.weight.T + model.post_extract_proj.bias
    frames, count = x.shape[1], vectors.shape[0]
    parts = [x[0], vectors] if position == "end" else [vectors, x[0]]
    states = encode(stock.model.encoder, torch.cat(parts).unsqueeze(0), tensors=tensors)
    first = 0 if position == "end" else count
    return [state[0, first : first + frames] for state in states]


def states_with_deep_prompts(encoder, x, mask, tensors):
    """The N+1 states of an encoder whose layers run over learned frames put first and dropped after each layer.

    WavLM's position bias is recomputed for the number of frames of each layer.
    """
    if mask is not None:
        x = x * (~mask).unsqueeze(-1)
    x = x + encoder.pos_conv(x.transpose(1, 2)).transpose(1, 2)
    if not encoder.layer_norm_first:
        x = encoder.layer_norm(x)
    states = []
    for index, layer in enumerate(encoder.layers):
        states.append(x)
        vectors = tensors.get(f"deep_prompt.{index}.vectors", x.new_zeros(0, x.shape[-1]))
        count = len(vectors)
        longer = torch.cat([vectors.expand(len(x), -1, -1), x], dim=1)
        options = {}
        if mask is not None:
            options["self_attn_padding_mask"] = torch.cat([mask.new_zeros(len(x), count), mask], dim=1)
        if hasattr(encoder.layers[0].self_attn, "relative_attention_bias"):
            frames = longer.shape[1]
            options["pos_bias"] = encoder.layers[0].self_attn.compute_bias(frames, frames).repeat(len(x), 1, 1)
        x = layer(longer.transpose(0, 1), **options)[0].transpose(0, 1)[:, count:]
    return [*states, encoder.layer_norm(x) if encoder.layer_norm_first else x]
