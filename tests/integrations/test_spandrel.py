"""Spandrel's own loader gives our models, sized by their tensors; and its models restore here."""

import numpy as np
import pytest
import torch
from PIL import Image

import codeprior as cp
from codeprior.__main__ import main
from codeprior.images import to_signed, to_unit
from codeprior.integrations.spandrel import install
from codeprior.recipes.daefr import settings
from codeprior.recipes.daefr.model import restorer, vqgan
from codeprior.recipes.daefr.restore import EMBEDDED
from codeprior.restorers import SpandrelModel, load_restorer, peer_of
from tests import small_families
from tests.export.models import single
from tests.parity import gpen
from tests.parity.names import restorer_names
from tests.parity.setting import NETWORKS, fill_module

spandrel = pytest.importorskip("spandrel")


@pytest.fixture(autouse=True, scope="module")
def _registered():
    install()


def _face(side: int) -> torch.Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))


def _loaded(state):
    return spandrel.ModelLoader().load_from_state_dict(state)


@pytest.mark.parametrize("name", ["vqfr1", "vqfr2", "codeformer", "restoreformer_plus"])
def test_official_checkpoints_are_loaded_by_spandrel(name, tmp_path):
    plus = name == "restoreformer_plus"
    model = small_families.restoreformer(plus=True) if plus else getattr(small_families, name)()
    torch.save({"params_ema": small_families.official(model)}, tmp_path / "model.pth")
    found = spandrel.ModelLoader().load_from_file(tmp_path / "model.pth")
    family = name.removesuffix("_plus").rstrip("12")
    assert found.architecture.id == f"codeprior-{family}"
    assert (found.purpose, found.scale, found.input_channels) == ("FaceSR", 1, 3)
    face = _face(16)
    truth = to_unit(model.restore(to_signed(face))).clamp(0, 1)
    inside = found.model.restore(to_signed(face))
    assert torch.allclose(to_unit(inside).clamp(0, 1), truth, atol=1e-6)
    # sizes come from the shapes of the tensors
    assert next(iter(found.model.parameters())).shape == next(iter(model.parameters())).shape


def _daefr() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    network = NETWORKS["tiny"]
    model = restorer(settings.RestorationRecipe(network=network), vqgan(network).prior())
    official = restorer_names(model)
    fill_module(model, official)
    return model.eval(), {official[name]: value for name, value in model.state_dict().items()}


def _gpen() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    return gpen.filled("tiny", "generator"), gpen.official("tiny", "generator")


@pytest.mark.parametrize(("family", "made", "side"), [("daefr", _daefr, 64), ("gpen", _gpen, 64)])
def test_other_official_names_are_loaded_by_spandrel(family, made, side, tmp_path):
    model, official = made()
    torch.save(official, tmp_path / "model.pth")
    found = spandrel.ModelLoader().load_from_file(tmp_path / "model.pth")
    assert (found.architecture.id, found.tags) == (f"codeprior-{family}", [f"{side}px"])
    face = _face(side)
    truth = to_unit(model.restore(to_signed(face)))
    assert torch.allclose(found(face), truth.clamp(0, 1), atol=1e-6)
    assert float(truth.std()) > 0.01


def test_weights_of_ours_are_recognised_by_their_tensors():
    path = EMBEDDED["small"]
    found = spandrel.ModelLoader().load_from_file(path)
    assert found.architecture.name == "codeprior DAEFR" and found.tags == ["128px"]
    face = _face(128)
    truth = to_unit(cp.load(path).restore(to_signed(face))).clamp(0, 1)
    assert torch.allclose(found(face), truth, atol=1e-6)


def test_other_weights_of_ours_are_recognised_once_they_are_named(tmp_path):
    model = single()
    path = tmp_path / "own.safetensors"
    cp.save(path, model)
    with pytest.raises(spandrel.UnsupportedModelError):
        spandrel.ModelLoader().load_from_file(path)
    (added,) = install(path)
    assert added.startswith("codeprior-own-") and install(tmp_path) == ()
    found = spandrel.ModelLoader().load_from_file(path)
    face = _face(16)
    assert torch.allclose(found(face), to_unit(model.restore(to_signed(face))).clamp(0, 1), atol=1e-6)
    assert found.size_requirements.square and found.size_requirements.minimum == 16


def test_a_file_that_does_not_build_its_module_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"a\.safetensors does not say how to build its module"):
        install(tmp_path / "a.safetensors")


@pytest.mark.parametrize("prefix", ["", "vqvae."])
def test_a_first_stage_is_not_mistaken_for_restoreformer(prefix):
    # an auto-encoder in the names of taming-transformers, whose attention has one normalisation
    state = small_families.official(small_families.dictionary())
    state = {prefix + key: value for key, value in state.items() if ".norm2." not in key or "attn" not in key}
    with pytest.raises(spandrel.UnsupportedModelError, match="weights of a first stage"):
        _loaded(state)


def test_a_prior_of_vqfr_is_no_restorer():
    state = small_families.official(small_families.vqfr2())
    state = {key: value for key, value in state.items() if not key.startswith(("main_branch", "inpfeat", "feat2index"))}
    with pytest.raises(spandrel.UnsupportedModelError, match=r"weights of a first stage \(vqfr\)"):
        _loaded(state)


def test_registering_twice_changes_nothing():
    before = len(spandrel.MAIN_REGISTRY)
    assert install() == () and len(spandrel.MAIN_REGISTRY) == before


def test_models_that_spandrel_has_stay_spandrel_s():
    assert "GFPGAN" in spandrel.MAIN_REGISTRY and "RestoreFormer" in spandrel.MAIN_REGISTRY
    state = small_families.official(small_families.restoreformer())
    found = [one.architecture.id for one in spandrel.MAIN_REGISTRY.architectures("detection") if one.detect(state)]
    assert found[0] == "RestoreFormer"


class _Doubling(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.planted = torch.nn.Parameter(torch.zeros(1))

    def forward(self, image):
        return torch.nn.functional.interpolate(image, scale_factor=2) * 0.5


def _descriptor(**changes):
    class Arch(spandrel.Architecture):
        def __init__(self):
            super().__init__(id="planted", name="Planted", detect=lambda state: set(state) == {"planted"})

        def load(self, state_dict):
            given = {
                "purpose": "FaceSR", "tags": [], "supports_half": False, "supports_bfloat16": False, "scale": 2,
                "input_channels": 3, "output_channels": 3,
                "size_requirements": spandrel.SizeRequirements(minimum=64, square=True), **changes,
            }  # fmt: skip
            model = _Doubling()
            return spandrel.ImageModelDescriptor(model, model.state_dict(), architecture=self, **given)

    return Arch()


@pytest.fixture
def planted(monkeypatch):
    """Puts an architecture into a registry of its own, which loaders then ask."""
    registry = spandrel.MAIN_REGISTRY.copy()
    registry.add(spandrel.ArchSupport.from_architecture(_descriptor()))
    monkeypatch.setattr(spandrel.ModelLoader.__init__, "__defaults__", (None, registry))
    return {"planted": torch.zeros(1)}


def test_a_model_of_spandrel_restores_signed_faces_in_batches(planted):
    model = peer_of(planted)
    assert isinstance(model, SpandrelModel) and (model.size, model.scale, model.architecture) == (64, 2, "Planted")
    faces = torch.rand(3, 3, 64, 64) * 2 - 1
    assert torch.equal(model.restore(faces), _Doubling()(faces))


def test_the_command_restores_with_a_model_of_spandrel(planted, tmp_path):
    torch.save(planted, tmp_path / "planted.pth")
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path / "face.png")
    words = ["--recipe", "spandrel", "--weights", str(tmp_path / "planted.pth"), "--aligned", "--always"]
    assert main(["restore", str(tmp_path / "face.png"), str(tmp_path / "out.png"), *words, "--no-match-colour"]) == 0
    restored = np.asarray(Image.open(tmp_path / "out.png"))
    # half of the distance from the middle grey
    assert restored.shape == (128, 128, 3) and abs(int(restored[5, 5, 0]) - (127.5 + 72.5 / 2)) <= 1
    assert load_restorer(tmp_path / "planted.pth", family="spandrel").model.architecture == "Planted"


def test_a_file_is_spandrel_s_only_where_it_is_asked(planted, tmp_path):
    torch.save(planted, tmp_path / "planted.pth")
    with pytest.raises(ValueError, match="no installed family reads"):
        load_restorer(tmp_path / "planted.pth")
