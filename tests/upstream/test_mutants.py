"""Mutants die: planted mistakes, the tests of this suite that fail under each, and what the self-check reports.

The tests are called as functions with arguments of their own parametrization; they must pass without the mutant
and fail by their own assertions with it. A user only has the self-check, which detects some of the mutants.
"""

import inspect
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests import mutants
from tests.adapters.test_eject import test_ejected_is_the_plain_backbone as _ejected
from tests.adapters.test_p_adapter import test_lengths_are_the_hosts as _lengths
from tests.adapters.test_parallel_and_cnn import (
    test_cnn_adapters_let_gradients_through_and_leave_the_switch_as_it_was as _cnn,
)
from tests.adapters.test_parallel_and_cnn import test_parallel_is_a_bottleneck_of_the_layers_input as _parallel
from tests.adapters.test_prefix import test_deep_prompts_are_frames_that_are_put_in_and_stripped as _deep_prompts
from tests.adapters.test_weight_methods import test_lora_is_the_weight_plus_the_scaled_product as _lora
from tests.adapters.test_weight_methods import test_lora_starts_like_loralib as _lora_start
from tests.backbones.test_architecture import test_counts_are_what_injection_declares as _counts
from tests.experts import CONFIGS, make_expert
from tests.upstream import test_laws_switching, test_laws_training
from tests.upstream.test_expert import test_frame_lengths_are_the_convolutions as _frame_lengths
from tests.upstream.test_expert_parity import test_adapters_see_what_the_dropout_leaves as _dropped
from tests.upstream.test_expert_parity import test_states_and_features_are_the_references as _parity
from tests.upstream.test_merge import test_plain_s3prl_gives_the_adapted_states as _merged
from tests.upstream.test_state_dict import test_another_backbones_checkpoint_is_refused as _other_backbone
from tests.upstream.test_state_dict import test_bad_states_change_nothing as _bad_states
from tests.upstream.test_state_dict import test_in_a_parent_only_declared_tensors_are_saved as _saved_in_a_parent
from upstream_elp.base.errors import ElpError

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")

_off = test_laws_switching.test_off_is_the_plain_backbone
_identity = test_laws_switching.test_identity_at_init
_modes = test_laws_switching.test_modes_change_nothing
_frozen_modes = test_laws_switching.test_frozen_modules_stay_in_eval_mode
_copied = test_laws_switching.test_deep_copy_is_independent
_entered = test_laws_switching.test_every_declared_site_is_entered
_state_dict = test_laws_switching.test_state_dict_has_no_frozen_tensor
_sensitive = test_laws_training.test_every_site_changes_the_output
_trained = test_laws_training.test_declared_tensors_train_and_no_other
_padding = test_laws_training.test_adapters_let_no_padding_in

Test = tuple[Callable, dict[str, Any]]


class Case(NamedTuple):
    """The expected effects of one mutant."""

    mutant: Callable[[pytest.MonkeyPatch], None]
    config: str
    """Configuration in which it does harm."""
    seen: str | None
    """What the self-check says of it there, a pattern; None: the self-check cannot see it."""
    tests: list[Test]
    """Tests that fail, each with arguments of one of its cases; fixtures are filled in."""


def _on(config: str, *tests: Callable, backbone: str = "wavlm-base") -> list[Test]:
    return [(test, {"config": config, "backbone": backbone}) for test in tests]


_BACKBONE = {"backbone": "wavlm-base"}
_LORA = {"targets": ["q", "k"], "rank": 8, "alpha": 1, **_BACKBONE}
_MISSING = {"problem": "missing", "strict": True, "inside": False}

CASES = [
    # the injection, and what is trained
    Case(
        mutants.wrap_q_proj, "lora_qk8", r"q_proj\.update is never entered",
        _on("lora_qk8", _entered, _sensitive, _trained),
    ),
    Case(mutants.drop_a_site, "e_only", None, _on("e_only", _counts)),
    Case(
        mutants.leave_a_site_out_of_the_forward, "le", r"idle\.adapters\.e_adapter is never entered",
        _on("le", _entered, _sensitive, _trained, _parity),
    ),
    Case(mutants.adapt_the_other_block, "e_only", None, _on("e_only", _parity)),
    Case(mutants.update_the_other_weight, "lora_qk8", None, [(_lora, _LORA)]),
    Case(mutants.freeze_a_declared_tensor, "elp", r"e_adapter\.0\.ffn\.down\.weight is frozen", _on("elp", _trained)),
    Case(mutants.train_a_frozen_tensor, "elp", "post_extract_proj.weight is trainable, but no", _on("elp", _trained)),
    Case(
        mutants.leave_the_front_end_without_gradients, "parallel-zero-with-others",
        r"cnn\.0\.copy\.0\.weight receives no gradient",
        [*_on("parallel-zero-with-others", _trained), (_cnn, _BACKBONE)],
    ),
    # what is computed
    Case(mutants.scale_lora_by_alpha, "lora_qk8", None, [(_lora, _LORA), (_lora_start, {})]),
    Case(mutants.put_the_skip_inside_the_norm, "e_only", None, _on("e_only", _parity, _identity)),
    Case(mutants.adapt_after_the_residual, "e_only", None, _on("e_only", _parity)),
    Case(mutants.adapt_before_the_dropout, "e_only", None, [(_dropped, _BACKBONE)]),
    Case(mutants.show_parallel_adapters_the_blocks_output, "parallel", None, [(_parallel, _BACKBONE)]),
    Case(mutants.forget_prompt_positions, "deep_prompt", None, [(_deep_prompts, {"layers": "all", **_BACKBONE})]),
    Case(
        mutants.append_pseudo_frames_after_the_padding, "elp", None, _on("elp", _padding, backbone="wavlm-large")
    ),
    Case(mutants.keep_pseudo_frames, "elp", None, [*_on("elp", _modes), (_lengths, _BACKBONE)]),
    Case(
        mutants.count_a_frame_too_many, "elp", None,
        [(_frame_lengths, _BACKBONE), *_on("elp", _padding, backbone="wavlm-large")],
    ),
    # what the head sees
    Case(mutants.read_the_layers_input, "le", r"layer_norm\.2\.attention\.weight receives no", _on("le", _parity)),
    Case(mutants.turn_the_order_of_layers, "weighted_sum", None, _on("weighted_sum", _parity)),
    # switching, modes, copies, taking out
    Case(mutants.leave_norms_switched_on, "le", "with the adapters off", _on("le", _off)),
    Case(mutants.leave_lora_switched_on, "lora_qk8", "with the adapters off", _on("lora_qk8", _off)),
    Case(mutants.run_the_backbones_dropout, "le", None, _on("le", _frozen_modes)),
    Case(mutants.share_adapters_with_copies, "le", None, _on("le", _copied)),
    Case(mutants.leave_trained_norms_in, "le", None, _on("le", _ejected)),
    Case(mutants.leave_the_attentions_class, "prefix_kv", None, _on("prefix_kv", _ejected)),
    # what is saved, loaded and merged
    Case(mutants.forget_a_tensor, "le", None, [*_on("le", _state_dict), (_saved_in_a_parent, {})]),
    Case(mutants.load_without_audit, "le", None, [(_bad_states, _MISSING)]),
    Case(mutants.trust_every_backbone, "le", None, [(_other_backbone, {})]),
    Case(mutants.merge_without_the_scale, "lora_qk8", None, [(_merged, {"config": "lora, layer norms", **_BACKBONE})]),
]  # fmt: skip
_NAMES = [case.mutant.__name__ for case in CASES]


def _parametrizations(test):
    """(names, values) of each parametrization of a test, of its module's too."""
    marks = [*getattr(test, "pytestmark", [])]
    shared = getattr(sys.modules[test.__module__], "pytestmark", [])
    marks += shared if isinstance(shared, list) else [shared]
    return [mark.args[:2] for mark in marks if mark.name == "parametrize"]


def _assert_is_a_case(test, arguments):
    """Assert that the suite itself calls the test with these arguments."""
    chosen = dict(arguments)
    for names, values in _parametrizations(test):
        names = [names] if isinstance(names, str) else list(names)
        wanted = [chosen.pop(name) for name in names]
        assert any((list(value) if len(names) > 1 else [value]) == wanted for value in values), (test, names, wanted)
    assert not chosen


def _call(test, arguments, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        fixtures = {"law": lambda name, refused=None: None, "tmp_path": tmp_path, "monkeypatch": patch}
        wanted = set(inspect.signature(test).parameters)
        test(**arguments, **{name: fixtures[name] for name in wanted - arguments.keys()})


@pytest.mark.parametrize("case", CASES, ids=_NAMES)
def test_existing_tests_fail_under_a_mutant(case, tmp_path):
    assert case.tests
    for index, (test, arguments) in enumerate(case.tests):
        _assert_is_a_case(test, arguments)
        for outcome in ("holds", "fails"):
            (folder := tmp_path / f"{index}-{outcome}").mkdir()
            with pytest.MonkeyPatch.context() as patch:
                if outcome == "holds":
                    _call(test, arguments, folder)
                    continue
                case.mutant(patch)
                # a failed assertion or a missing refusal, but not just any exception
                with pytest.raises((AssertionError, pytest.fail.Exception)):
                    _call(test, arguments, folder)


@pytest.mark.parametrize("case", CASES, ids=_NAMES)
def test_the_self_check_sees_what_it_can(case, monkeypatch):
    assert case.config in CONFIGS
    make_expert("wavlm-base", case.config, check=True)
    case.mutant(monkeypatch)
    if case.seen is None:
        make_expert("wavlm-base", case.config, check=True)
        return
    with pytest.raises(ElpError, match=f"self-check: .*{case.seen}"):
        make_expert("wavlm-base", case.config, check=True)


def test_every_mutant_is_in_the_table():
    planted = {name for name, value in vars(mutants).items() if inspect.isfunction(value) and name[0] != "_"}
    local = {name for name in planted if getattr(mutants, name).__module__ == mutants.__name__}
    assert local == set(_NAMES) and len(_NAMES) == len(local)
