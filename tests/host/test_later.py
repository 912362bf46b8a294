"""What most runs never use is imported when it is used, and not before."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import upstream_elp
from tests.toys import tiny_backbone
from upstream_elp.host import later
from upstream_elp.host.later import Later

RARE = (
    "torch._dynamo",
    "sympy",
    "transformers",
    "requests",
    "httpx",
    "httpx2",
    "pandas",
    "scipy",
    "librosa",
    "sklearn",
)
HERE = f"print(sorted({set(RARE)!r} & {{*sys.modules}}))"
OPTIMIZERS = ["Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "Adadelta", "NAdam", "RAdam", "Adamax", "ASGD", "Rprop"]
STEPS = """
import sys, torch
{before}
from upstream_elp.host import later
if not later.compiles():
    later.compiler()
    later.symbols()
found = []
for name in {optimizers}:
    torch.manual_seed(0)
    linear, attention = torch.nn.Linear(4, 4), torch.nn.MultiheadAttention(4, 2)
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[1, 3:] = True
    parameters = [*linear.parameters(), *attention.parameters()]
    optimizer = getattr(torch.optim, name)(parameters, lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        x = linear(torch.ones(5, 2, 4))
        attention(x, x, x, key_padding_mask=mask)[0].square().sum().backward()
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    found.append([name, *(parameter.sum().item().hex() for parameter in parameters)])
{after}
print(found)
"""


def reported(code):
    """The lines that a separate Python prints."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_optimizers_without_the_compiler_take_the_same_steps():
    rare, *without = reported(STEPS.format(optimizers=OPTIMIZERS, before="", after=HERE))
    with_it = reported(STEPS.format(optimizers=OPTIMIZERS, before="import torch._dynamo", after=""))
    assert rare == "[]" and without == with_it


def test_methods_use_the_compiler_once_it_is_imported(monkeypatch):
    method, plain = (lambda self: "method"), (lambda self: "plain")
    chosen = later._unless_compiling(method, plain)
    monkeypatch.delitem(sys.modules, later.COMPILER, raising=False)
    assert chosen(None) == "plain"
    monkeypatch.setitem(sys.modules, later.COMPILER, torch)
    assert chosen(None) == "method"


def test_every_method_of_torchs_optimizers_that_imports_the_compiler_is_known():
    code = """
import torch
from upstream_elp.host import later
later.compiler()
kinds = {each for each in vars(torch.optim).values() if isinstance(each, type)}
methods = [(kind, name, method) for kind in kinds for name, method in vars(kind).items() if hasattr(method, "__code__")]
changed = [method for _, _, method in methods if method.__code__.co_name == "chosen"]
left = [f"{kind.__name__}.{name}" for kind, name, method in methods
        if method.__code__.co_name != "chosen" and "torch._dynamo" in method.__code__.co_names]
left += [f"{kind.__name__}.{name}" for kind, name, method in methods
         if method.__code__.co_filename == torch._compile.__file__]
print(len(changed) > 12, left)
"""
    assert reported(code) == ["True []"]


def test_steps_are_differentiable_if_they_were():
    seen = []

    step = later._with_or_without_grad(lambda self: seen.append(torch.is_grad_enabled()))
    with torch.no_grad():
        step(SimpleNamespace(defaults={"differentiable": True}))
    step(SimpleNamespace(defaults={"differentiable": False}))
    assert seen == [True, False] and torch.is_grad_enabled()


def test_a_condition_that_is_not_true_is_still_refused():
    upstream_elp.register()
    torch._check_with(ValueError, True, lambda: "unseen")
    with pytest.raises(ValueError, match="seen"):
        torch._check_with(ValueError, False, lambda: "seen")
    with pytest.raises(TypeError, match="cond must be a bool"):
        torch._check_with(ValueError, 1, None)


def test_a_mask_of_another_shape_is_still_refused():
    upstream_elp.register()
    x = torch.zeros(5, 2, 4)
    with pytest.raises((RuntimeError, AssertionError)):
        nn.MultiheadAttention(4, 2)(x, x, x, key_padding_mask=torch.zeros(3, 5, dtype=torch.bool))


def test_the_compiler_works_when_something_is_compiled():
    code = """
import torch, upstream_elp
upstream_elp.register()
linear = torch.nn.Linear(2, 2)
optimizer = torch.optim.Adam(linear.parameters())
compiled = torch.compile(torch.nn.MultiheadAttention(4, 2), backend="eager")
x = torch.zeros(5, 2, 4)
print(compiled(x, x, x, key_padding_mask=torch.zeros(2, 5, dtype=torch.bool))[0].shape)
linear(torch.ones(1, 2)).sum().backward()
optimizer.step()
torch.compile(optimizer.step, backend="eager")()
print(int(optimizer.state[linear.weight]["step"]))
"""
    assert reported(code) == ["torch.Size([5, 2, 4])", "2"]


def test_a_stand_in_is_the_thing_itself_when_used():
    assert Later("collections", "OrderedDict")(a=1)["a"] == 1
    assert Later("collections", "OrderedDict").fromkeys("ab") == {"a": None, "b": None}
    assert Later("json").loads("[1]") == [1]


def test_building_a_backbone_with_adapters_imports_nothing_rare():
    path = tiny_backbone(None, "wavlm")
    code = f"""
import sys, torch, upstream_elp
upstream_elp.register()
from s3prl import hub
expert = hub.elp_local(ckpt={str(path)!r}, model_config="le")
expert([torch.randn(4000), torch.randn(2900)])
import s3prl.run_downstream
{HERE}
"""
    assert reported(code) == ["[]"]
