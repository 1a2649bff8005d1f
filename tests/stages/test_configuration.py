"""Settings from YAML and from single words: what is taken, what is refused, and what a run's folder holds of them."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest

from codeprior.families import installed_families
from codeprior.stages import StageSettings, loss_weights
from codeprior.stages.configuration import configured
from codeprior.stages.training_command import _options
from codeprior.training import Settings

pytest.importorskip("jsonargparse")


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    size: int = 128
    multipliers: tuple[int, ...] = (1, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe(StageSettings):
    network: Network = field(default_factory=Network)
    weights: Mapping[str, float] = field(default_factory=lambda: loss_weights(l1=1.0, perceptual=0.5))
    codebook: Literal["gradient", "moving_average"] = "gradient"


def test_a_file_changes_what_it_names_and_words_come_after_it(tmp_path):
    (tmp_path / "a.yaml").write_text("steps: 7\nlearning_rate: 1e-4\nnetwork: {size: 64}\nweights:\n  l1: 2\n")
    made = configured("r", Recipe(), file=tmp_path / "a.yaml", words=["steps=9", "network.multipliers=[1, 2, 4]"])
    expected = replace(
        Recipe(), steps=9, learning_rate=1e-4, network=Network(size=64, multipliers=(1, 2, 4)),
        weights=loss_weights(l1=2.0, perceptual=0.5),
    )  # fmt: skip
    assert made == expected
    assert type(made.weights) is type(Recipe().weights), "still nobody can change it"


@pytest.mark.parametrize(("word", "reason"), [
    ("steps=many", r"r\.steps: expected int, got 'many'\."),
    ("network.size=1.5", r"r\.network\.size: expected int, got 1\.5\."),
    ("network.sise=64", r"r\.network\.sise: there is no such setting; there are multipliers, size\."),
    ("network=3", r"r\.network: expected its own settings by name, got 3\."),
    ("weights.l7=1", r"r\.weights: l7 is not there; there are l1, perceptual\."),
    ("weights.l1=much", r"r\.weights: expected .*, got "),
    ("codebook=table", r"r\.codebook: expected Literal\['gradient', 'moving_average'\], got 'table'\."),
    ("steps", r"--set steps: expected NAME=VALUE"),
    ("a..b=1", r"--set a\.\.b=1: expected NAME=VALUE"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(word, reason):
    with pytest.raises(ValueError, match=reason):
        configured("r", Recipe(), words=[word])


@pytest.mark.parametrize(("name", "text", "reason"), [
    ("a.yaml", "- 1\n- 2\n", "expected settings by name, got list"),
    ("a.yaml", "steps: [1", "it is no YAML"),
    ("a.json", '{"recipe": "other", "settings": {"steps": 1}}', "holds the settings of other, and this is r"),
])  # fmt: skip
def test_a_file_that_is_none_is_refused(tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=reason):
        configured("r", Recipe(), file=tmp_path / name)


def test_a_run_is_made_again_from_what_its_folder_holds(tmp_path):
    recipe = configured("r", Recipe(), words=["weights.l1=3", "network.size=32", "clip=0.5"])
    Settings(recipe, "r", without=("steps",), options={"precision": "bfloat16"}).write(tmp_path)
    held = json.loads((tmp_path / "configuration.json").read_text())
    assert held["options"] == {"precision": "bfloat16"} and held["settings"]["steps"] == recipe.steps
    assert configured("r", Recipe(), file=tmp_path / "configuration.json") == recipe


def test_options_are_recorded_as_they_were_given():
    arguments = argparse.Namespace(recipe="r", faces=[Path("a")], precision="float32", minutes=None)
    assert _options(arguments) == {"faces": ["a"], "precision": "float32", "minutes": None}


def _recipes():
    from importlib import import_module

    for family in installed_families():
        if not family.stages:
            continue
        module = import_module(f"codeprior.recipes.{family.name}.settings")
        for name, make in getattr(module, "SETTINGS", {}).items():
            yield pytest.param(name, make, id=f"{family.name}-{name}")


@pytest.mark.parametrize(("name", "make"), list(_recipes()))
def test_every_recipe_survives_its_record(name, make, tmp_path):
    Settings(make(), name).write(tmp_path)
    assert configured(name, make(), file=tmp_path / "configuration.json") == make()


_LAUGHS = "steps:\n- &a [x, x, x, x]\n" + "".join(
    f"- &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghijklmnop", "bcdefghijklmnopq", strict=True)
)


@pytest.mark.parametrize(("text", "reason"), [
    (b"steps: !!python/object/apply:os.system ['touch pwned']", "could not determine a constructor"),
    (_LAUGHS.encode(), "it has anchors"),
    (b"network: &a {network: *a}", "it has anchors"),
    (b"steps: " + b"[" * 60_000, "more than 20 deep"),
    (b"steps: " + b"{a: " * 15_000, "more than 20 deep"),
    (b"steps: " + b"9" * 5_000, "4300 digits"),
    (b"# " + b"x" * 2**19, "more than 65,536 characters"),
    (b"steps: " + b"a" * 60_000, r"r\.steps: expected int, got 'aaa"),
    (b"codebook: 0x" + b"f" * 5_000, "got a int of thousands of digits"),
    (b"weights: {l1: .nan}", r"r\.weights: expected finite numbers, got {'l1': nan"),
    (b"learning_rate: 1.0e400", r"r\.learning_rate: expected finite numbers, got '1.0e400'"),
    (b"\xff\xfe\0", "not UTF-8"),
    (b"weights: {1: 2, x: 3}", "1, x is not there"),
    (b"network: {class_path: subprocess.Popen, init_args: {args: [touch, pwned]}}", "there is no such setting"),
])  # fmt: skip
def test_a_hostile_file_is_refused_in_a_moment(tmp_path, monkeypatch, text, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_bytes(text)
    with pytest.raises(ValueError, match=reason) as caught:
        configured("r", Recipe(), file=tmp_path / "a.yaml")
    assert len(str(caught.value)) < 1000
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


def test_a_folder_or_a_pipe_is_no_file_of_settings(tmp_path):
    with pytest.raises(OSError, match="regular file"):
        configured("r", Recipe(), file=tmp_path)


@pytest.mark.parametrize(
    "word", ["steps=[", "steps=!!python/name:os.system", "steps=" + "[" * 5000, "a" + ".a" * 5000 + "=1"]
)
def test_a_word_that_is_no_yaml_is_refused(word):
    with pytest.raises(ValueError, match="--set "):
        configured("r", Recipe(), words=[word])
