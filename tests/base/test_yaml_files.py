"""YAML files: a number that YAML 1.1 reads as something else is refused, with its key and how to write it."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from downstream_heads import registry
from upstream_elp.adapters.config import load_config, recipes_dir
from upstream_elp.base.errors import ElpError
from upstream_elp.base.yaml_files import number_of, parse_yaml, read_yaml
from upstream_elp.launch import recipes

DIGITS = st.text("0123456789", min_size=1, max_size=4)
MANTISSAS = st.one_of(
    DIGITS,
    st.tuples(DIGITS, DIGITS).map(".".join),
    DIGITS.map("{}.".format),
    DIGITS.map(".{}".format),
)
EXPONENTS = st.tuples(
    st.sampled_from("eE"), st.sampled_from(["", "-", "+"]), st.text("0123456789", min_size=1, max_size=2)
)
NUMBERS = st.tuples(st.sampled_from(["", "-", "+"]), MANTISSAS, st.one_of(st.just(""), EXPONENTS.map("".join)))


@given(NUMBERS.map("".join))
def test_every_number_is_read_as_it_is_meant_or_refused_with_the_way_to_write_it(text):
    value, misread = parse_yaml(f"a: {{b: [{text}]}}")
    meant = float(text)
    if misread:
        assert misread[0].startswith(f"a.b[0] is {text}, which YAML reads as ")
        assert misread[0].split("; write ")[1].startswith(number_of(text))
    else:
        assert value["a"]["b"][0] == meant
    again = yaml.safe_load(number_of(text))
    assert isinstance(again, int | float) and again == meant


@given(st.one_of(NUMBERS.map("".join), st.text(max_size=6)))
def test_a_text_in_quotes_is_a_text(text):
    content, misread = parse_yaml(yaml.safe_dump({"a": text}, default_style='"', allow_unicode=True))
    assert content == {"a": text} and not misread


@pytest.mark.parametrize(
    "text", ["e", "1e", "e5", "0-10", "top:4", "1/3", "1.0.0", "0x1f", "nan", "1e5k", "\u0661e5", "", "-"]
)
def test_other_texts_are_not_numbers(text):
    assert number_of(text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "optimizer: {weight_decay: 1e-2}",
            r"optimizer\.weight_decay is 1e-2, which YAML reads as text; write 1\.0e-2",
        ),
        (
            "optimizer: {eps: 1e-8, lr: 1.0e4}",
            r"optimizer\.eps is 1e-8, .*; optimizer\.lr is 1\.0e4, .*; write 1\.0e\+4",
        ),
        ("runner: {gradient_clipping: 1e3}", r"runner\.gradient_clipping is 1e3, .*; write 1\.0e\+3"),
        ("scheduler: {multipliers: [1, 3e-1]}", r"scheduler\.multipliers\[1\] is 3e-1, .*; write 3\.0e-1"),
        ("methods: {le: {optimizer: {groups: {head: 1e-4}}}}", r"methods\.le\.optimizer\.groups\.head is 1e-4"),
        ("downstream_expert: {datarc: {held_out: 5e-2}}", r"downstream_expert\.datarc\.held_out is 5e-2"),
        ("downstream_expert: {modelrc: {dropout: 1E-1}}", r"downstream_expert\.modelrc\.dropout is 1E-1"),
        ("runner: {total_steps: 010}", r"runner\.total_steps is 010, which YAML reads as 8 \(base 8\); write 10"),
        ("runner: {total_steps: 089}", r"runner\.total_steps is 089, which YAML reads as text; write 89"),
        ("runner: {total_steps: 1:30}", r"runner\.total_steps is 1:30, which YAML reads as 90 \(base 60\); put it in"),
    ],
)
def test_every_block_of_a_task_config(text, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"base: elp_sv\n{text}\n")
    with pytest.raises(ElpError, match=rf"mine\.yaml: {message}") as caught:
        recipes.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lora: {alpha: 1e1}", r"lora\.alpha is 1e1, .*; write 1\.0e\+1"),
        ("lora: {layers: 1:3}", r"lora\.layers is 1:3, which YAML reads as 63 \(base 60\); put it in quotes"),
        ("lora: {rank: {1:3: 4, ':1': 2}}", r"the key lora\.rank\.1:3 is 1:3, .*; put it in quotes"),
    ],
)
def test_an_adapters_yaml(text, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"base: lora_qv8\n{text}\n")
    with pytest.raises(ElpError, match=message):
        load_config(path)


def test_what_a_program_wrote_may_hold_texts_like_numbers(tmp_path):
    path = tmp_path / "adapter_config.yaml"
    path.write_text(yaml.safe_dump({"name": "1e3"}))
    assert read_yaml(path, by_hand=False) == {"name": "1e3"}


def test_an_alias_may_lead_back_to_what_holds_it():
    content, misread = parse_yaml("a: &x\n  b: *x\n  c: 1e3\n")
    assert content["a"]["b"] is content["a"] and len(misread) == 1


@pytest.mark.parametrize(
    "path",
    [*recipes_dir().rglob("*.yaml"), *(task.config for task in registry.tasks().values())],
    ids=lambda path: path.stem,
)
def test_our_own_files_hold_no_such_number(path):
    read_yaml(path)
