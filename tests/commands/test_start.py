"""Commands that only list something answer at once: they import nothing slow, above all not torch."""

import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner

from tests import third_party
from upstream_elp.adapters.config import load_config
from upstream_elp.base.errors import ElpError
from upstream_elp.cli import group

CODE = """
import sys
from upstream_elp.cli import main
sys.argv = ["elp", *sys.argv[1:]]
try:
    main()
finally:
    print(sorted({"torch", "numpy", "s3prl", "transformers", "elp_slow"} & {*sys.modules}), file=sys.stderr)
"""
#: a package whose method must not be imported before a configuration names it
SLOW = "import torch\n\n\nclass Slow:\n    pass\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--help"], "presets"),
        (["presets", "--help"], "List the adapter presets"),
        (["presets"], "| elp "),
        (["presets", "elp"], "p_adapter:"),
        (["backbones"], "slow, encoder"),
        (["backbones", "--json"], '"slow"'),
    ],
    ids=" ".join,
)
def test_what_lists_something_imports_no_torch(words, says, tmp_path):
    third_party.install(tmp_path, SLOW, "slow = elp_slow:Slow")
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{CODE}", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and says in done.stdout
    assert done.stderr.strip() == "[]"


def test_a_preset_is_printed_as_its_files_say_it_in_the_order_of_injection():
    said = yaml.safe_load(CliRunner().invoke(group, ["presets", "ep"], catch_exceptions=False).output)
    assert list(said) == ["name", "features", "description", "source", "e_adapter", "p_adapter", "layer_norm"]
    assert load_config(said) == load_config("ep")


def test_a_file_of_the_users_is_checked_before_it_is_printed(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("base: le\ne_adapter: {bottleneck: 16}\nl_adapter: null\nfeatures: last\n")
    said = yaml.safe_load(CliRunner().invoke(group, ["presets", str(file)], catch_exceptions=False).output)
    assert said["name"] == "mine" and "l_adapter" not in said and said["e_adapter"]["bottleneck"] == 16
    assert load_config(said) == load_config(file)
    file.write_text("base: le\ne_adapter: {bottleneck: wide}\n")
    with pytest.raises(ElpError, match="cannot read the size 'wide'"):
        CliRunner().invoke(group, ["presets", str(file)], catch_exceptions=False)
