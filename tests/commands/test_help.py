"""Help comes at once, and teaches."""

import re
import subprocess
import sys

import pytest
from click.testing import CliRunner
from processes import environment

from within_epsilon.commands import VERBS, main
from within_epsilon.data import digits
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

BALL = Ball("linf", 0.1)

LOADED = """
import sys
from click.testing import CliRunner
from within_epsilon.commands import VERBS
from within_epsilon.commands import main
for words in [["--help"], *([verb, "--help"] for verb in VERBS)]:
    assert CliRunner().invoke(main, words).exit_code == 0, words
heavy = {"torch", "numpy", "matplotlib", "PIL", "sklearn", "IPython", "torchvision", "scipy"}
print(sorted(heavy & set(sys.modules)))
"""

UNTIL_THE_FIRST_IMAGE = """
import sys
from within_epsilon.commands.inputs import arrays
from within_epsilon.commands import main
loaded = []
def first(self, position):
    loaded.extend(sys.modules)
    raise ValueError("enough")
arrays.Arrays.__getitem__ = first
words = ["--model", "mine:net", "--data", "test.npz", "--epsilon", "0.1"]
from click.testing import CliRunner
assert CliRunner().invoke(main, ["evaluate", *words]).exit_code == 2
heavy = {"matplotlib", "IPython", "sklearn", "scipy", "torchvision", "skimage", "pooch"}
assert "torch" in loaded
print(sorted(heavy & set(loaded)))
"""


def _printed(code):
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_help_loads_neither_torch_nor_anything_else_that_takes_long():
    assert _printed(LOADED) == "[]"


def test_an_evaluation_loads_what_it_needs_until_the_first_image(arrays):
    arrays()
    assert _printed(UNTIL_THE_FIRST_IMAGE) == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_examples_whose_options_exist(verb):
    said = CliRunner().invoke(main, [verb, "--help"]).output
    options, examples = said.split("Show this message and exit.")
    assert f"within-epsilon {verb} " in examples or f"within_epsilon {verb} " in examples
    named = set(re.findall(r"--[a-z-]+", re.sub(r"torchrun.*?-m within_epsilon", "", examples)))
    assert len(named) >= (2 if verb == "supports" else 3)
    assert named <= set(re.findall(r"--[a-z-]+", options))


def test_every_verb_is_in_the_list_with_what_it_does():
    said = CliRunner().invoke(main, ["--help"]).output
    for verb, does in VERBS.items():
        assert re.search(rf"^  {verb}\s+{re.escape(does)}", said, re.MULTILINE)


def test_a_mistake_in_the_options_is_a_sentence_and_status_2(call):
    status, said = call("evaluate", "--model", "digits_cnn", "--data", "digits", "--epsilon", "8/0")
    assert status == 2
    assert "such as 8/255" in said
    status, said = call("attack", "x.png", "--model", "digits_cnn", "--epsilon", "1", "--set", "a")
    assert status == 2
    assert "NAME=VALUE" in said


def test_help_names_exactly_the_attacks_that_are_taken():
    from within_epsilon.commands.options import ATTACKS
    from within_epsilon.commands.work.threats import FUNCTIONS, attack_of

    assert set(ATTACKS) == set(FUNCTIONS)
    images, labels = digits().test[:2]
    noisy = attack_of("noise_control", None, {})(digits_classifier(), images, labels, BALL)
    assert 0 < (noisy - images).abs().max() <= 0.1
