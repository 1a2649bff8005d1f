"""Families are found where they lie, described whole, and named by the weights that they load."""

import importlib
import json
import subprocess
import sys

import pytest
import torch

import codeprior as cp
from codeprior import families
from codeprior.__main__ import main
from codeprior.families import Family, Option, family_names, family_of, find_family, installed_families
from codeprior.recipes.daefr.model import restorer, vqgan
from codeprior.recipes.daefr.settings import Network, RestorationRecipe
from codeprior.weights import read_family, read_metadata
from tests.test_import_cost import ROOT

_NETWORK = Network(size=64, dim=32, codes=64, channels=32, multipliers=(1, 2, 4), width=64, layers=1, hidden=128)


def _model():
    return restorer(RestorationRecipe(network=_NETWORK), vqgan(_NETWORK).prior())


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Puts a family beside the installed ones: a constant colour, which an option chooses."""
    package = tmp_path / "planted"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "from codeprior.families import Family, Option, Published\n"
        "from codeprior.layers import configured\n"
        "@configured\n"
        "class PlantedConstant(nn.Module):\n"
        "    size, scale, stride = 32, 2, 8\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.level = nn.Parameter(torch.zeros(1))\n"
        "    def restore(self, signed, *, grey: float = 0.0):\n"
        "        shades = torch.as_tensor(grey, dtype=torch.float32).reshape(-1, 1, 1, 1)\n"
        "        return self.level + shades.expand(len(signed), 3, 64, 64)\n"
        "def load(path, *, device='cpu'):\n"
        "    from codeprior import weights\n"
        "    return weights.load(path, device=device)\n"
        "FAMILY = Family(name='planted', load=load, options={'grey': Option(float, 0.0, -1.0, 1.0, 'a shade')},\n"
        "    published=(Published('planted', 'https://example.org/planted.pth', '0' * 64, 'CC0', size=2**20),))\n"
    )
    (tmp_path / "no_family").mkdir()
    (tmp_path / "no_family" / "__init__.py").write_text("raise RuntimeError('nobody asked for this')\n")
    home = importlib.import_module("codeprior.recipes")
    monkeypatch.setattr(home, "__path__", [*home.__path__, str(tmp_path)])
    yield "planted"
    sys.modules.pop("codeprior.recipes.planted", None)
    importlib.import_module("codeprior.layers.configured")._CLASSES.pop("PlantedConstant", None)


def test_every_installed_family_is_whole():
    assert "daefr" in family_names()
    for family in installed_families():
        assert isinstance(family, Family)
        assert all(path.is_file() for path in family.embedded.values())
        assert family.licence or not family.embedded
        for stage in family.stages:
            assert callable(family.stage(stage))
        for one in family.published:
            assert one.url.startswith("https://") and len(one.sha256) in (0, 64) and one.licence


def test_a_package_that_is_added_is_found_and_one_without_a_family_is_not_imported(planted):
    assert planted in family_names()
    assert "no_family" not in family_names()
    assert find_family(planted).options["grey"].default == 0


def test_families_are_listed_without_torch():
    code = "import codeprior.families as f, sys; print(f.family_names(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "'daefr'" in done.stdout
    assert "False" in done.stdout


def test_a_family_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(ValueError, match=r"no model family is named 'nothing'; installed are .*daefr"):
        find_family("nothing")
    with pytest.raises(ValueError, match="daefr has no stage 'x'; choose codebook, association"):
        find_family("daefr").stage("x")


def test_weights_name_their_family_and_blocks_name_none(tmp_path):
    cp.save(tmp_path / "daefr.safetensors", _model())
    cp.save(tmp_path / "prior.safetensors", vqgan(_NETWORK))
    assert read_metadata(tmp_path / "daefr.safetensors")["codeprior.family"] == "daefr"
    assert "codeprior.family" not in read_metadata(tmp_path / "prior.safetensors")
    assert read_family(tmp_path / "daefr.safetensors") is find_family("daefr")
    assert read_family(tmp_path / "prior.safetensors") is None
    assert family_of(_model()) == "daefr"


_LOADED = (
    "import sys, codeprior as cp\n"
    "model = cp.load(sys.argv[1])\n"
    "print(type(model).__module__, cp.restorers.load_restorer(sys.argv[1]).size)"
)


@pytest.mark.parametrize("older", [False, True])
def test_a_fresh_interpreter_loads_a_familys_weights_without_importing_it(tmp_path, monkeypatch, older):
    if older:  # as it was written before the header named a family
        monkeypatch.setattr("codeprior.weights.store.family_of", lambda module: None)
    cp.save(tmp_path / "a.safetensors", _model())
    assert ("codeprior.family" in read_metadata(tmp_path / "a.safetensors")) is not older
    command = [sys.executable, "-c", _LOADED, str(tmp_path / "a.safetensors")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["codeprior.recipes.daefr.model", "64"]


def test_weights_of_a_family_that_is_gone_say_which_one(planted, tmp_path):
    cp.save(tmp_path / "p.safetensors", importlib.import_module(f"codeprior.recipes.{planted}").PlantedConstant())
    command = [sys.executable, "-c", _LOADED, str(tmp_path / "p.safetensors")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "the file is of the model family 'planted'; installed are" in done.stderr


def test_a_model_of_ones_own_declares_its_options_itself():
    class Own(torch.nn.Module):
        size, scale, stride = 16, 1, 8
        option_types = {"strength": Option(float, 1.0, 0.0, 2.0, "how much")}

        def restore(self, signed, *, strength: float = 1.0):
            return signed * strength

    restored = cp.Restorer(Own(), options={"strength": 0.0})(torch.rand(1, 3, 16, 16), always=True)
    assert torch.equal(restored, torch.full((1, 3, 16, 16), 0.5))


def test_options_are_checked_by_type_and_range():
    option = Option(float, 0.5, 0.0, 1.0, "how much")
    assert option.check("w", "0.25") == 0.25
    assert torch.equal(option.check("w", torch.tensor([0.0, 1.0])), torch.tensor([0.0, 1.0]))
    for value in (1.5, "much", torch.tensor([0.0, 1.5]), float("nan"), None):
        with pytest.raises(ValueError, match="option w: expected a number from 0 to 1, got"):
            option.check("w", value)
    assert Option(bool, False).check("adapt", "True") is True
    with pytest.raises(ValueError, match="option adapt: expected true or false, got 'yes'"):
        Option(bool, False).check("adapt", "yes")
    assert Option(int, 1, 0, 3).check("n", "2") == 2


def test_a_restorer_passes_declared_options_on(planted, tmp_path):
    model = importlib.import_module(f"codeprior.recipes.{planted}").PlantedConstant()
    cp.save(tmp_path / "p.safetensors", model)
    restorer = cp.load_restorer(tmp_path / "p.safetensors", options={"grey": "0.5"})
    assert (restorer.size, restorer.scale) == (32, 2)
    faces = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    restored = restorer(faces, always=True)
    assert restored.shape == (3, 3, 64, 64)
    assert torch.allclose(restored, torch.tensor(0.75))
    shades = torch.tensor([-1.0, 0.0, 1.0])
    restorer.batch = 2
    by_face = restorer(faces, always=True, options={"grey": shades})
    assert torch.allclose(by_face, ((shades + 1) / 2).view(3, 1, 1, 1).expand(3, 3, 64, 64))
    assert restorer.examine(faces, always=True).uncertainty is None
    with pytest.raises(ValueError, match="PlantedConstant has no option 'gray'; it has grey"):
        restorer(faces, options={"gray": 1})
    with pytest.raises(ValueError, match="option grey: expected a number from -1 to 1, got 2"):
        cp.Restorer(model, options={"grey": 2})
    with pytest.raises(ValueError, match=r"expected a row for each of 3 faces, got shape \(2,\)"):
        restorer(faces, always=True, options={"grey": torch.zeros(2)})


def test_the_command_lists_what_is_there(planted, capsys):
    assert main(["families"]) == 0
    said = capsys.readouterr().out
    assert "daefr: two encoders" in said
    assert "option fidelity: a number from 0 to 1, 1.0 by default" in said
    assert "option seed: a whole number from 0 to 2147483648, 0 by default" in said
    assert "  task inpaint, colourise, draw: with weights that were trained for it, codeprior restore --task" in said
    assert "weights small: in the package; CC BY 4.0" in said
    assert "download planted: 1.0 MiB; CC0\n    https://example.org/planted.pth\n    SHA-256 000" in said
    assert "download retinaface: RetinaFace" in said
    assert main(["families", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["families"][planted]["options"]["grey"]["high"] == 1
    assert set(described["families"]) == set(families.family_names())
    assert described["families"]["gpen"]["tasks"] == ["inpaint", "colourise", "draw"]


def test_published_weights_are_downloaded_by_name(planted, tmp_path, capsys):
    assert main(["download", planted, "--to", str(tmp_path), "--offline"]) == 2
    said = capsys.readouterr().err
    assert "planted: 1.0 MiB; CC0" in said
    assert main(["download", "nothing", "--to", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "codeformer-vqgan, planted, restoreformer, " in said
    assert "vqfr-v2, retinaface, retinaface-mobilenet, yunet, or give an address" in said


def test_the_former_name_of_the_recipes_gives_the_same_modules_and_says_so():
    code = (
        "import warnings; warnings.simplefilter('always')\n"
        "import examples.daefr.model, codeprior.recipes.daefr.model as new\n"
        "assert examples.daefr.model is new and examples.daefr.model.DAEFR is new.DAEFR\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "DeprecationWarning: examples is imported as codeprior.recipes" in done.stderr
    run = [sys.executable, "-W", "ignore", "-m", "examples.daefr.launch"]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
    assert "is a package and cannot be directly executed" in done.stderr
