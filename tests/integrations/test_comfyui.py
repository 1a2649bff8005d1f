"""The node package keeps ComfyUI's contract: what a node declares, and images `b h w c`, unit, in and out."""

import inspect
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

import codeprior as cp
from codeprior.integrations import comfyui
from codeprior.integrations.comfyui import nodes
from codeprior.photos.faces import NoFaceError, from_landmarks, template
from codeprior.photos.restoration import restore_photo
from tests.test_import_cost import ROOT

_KINDS = {"IMAGE", "STRING", "INT", "FLOAT", "BOOLEAN", "CODEPRIOR_RESTORER"}


@pytest.fixture(scope="module")
def restorer():
    return comfyui.LoadRestorer().load("small", "cpu")[0]


def _picture() -> torch.Tensor:
    return torch.rand(1, 96, 96, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", comfyui.NODE_CLASS_MAPPINGS)
def test_a_node_declares_what_comfyui_reads(name):
    node = comfyui.NODE_CLASS_MAPPINGS[name]
    assert comfyui.NODE_DISPLAY_NAME_MAPPINGS[name]
    assert node.CATEGORY == "image/codeprior"
    assert isinstance(node.RETURN_TYPES, tuple) and set(node.RETURN_TYPES) <= _KINDS
    assert len(node.RETURN_NAMES) == len(node.RETURN_TYPES)
    # ComfyUI makes the node without arguments and calls the function with the inputs by name
    taken = set(inspect.signature(getattr(node(), node.FUNCTION)).parameters)
    given = node.INPUT_TYPES()
    assert set(given) <= {"required", "optional"}
    inputs = given["required"] | given.get("optional", {})
    assert set(inputs) == taken
    for kind, *rest in inputs.values():
        offered = kind if isinstance(kind, list) else []
        assert all(isinstance(one, str) for one in offered) and (offered or kind in _KINDS)
        for settings in rest:
            assert settings.get("min", 0) <= settings.get("default", 0) <= settings.get("max", 1)


def test_embedded_weights_are_offered_and_a_missing_name_is_refused(restorer):
    assert "small" in comfyui.LoadRestorer.INPUT_TYPES()["required"]["weights"][0]
    assert isinstance(restorer, cp.Restorer)
    with pytest.raises(ValueError, match="LoadRestorer: there are no weights 'other'; there are small"):
        comfyui.LoadRestorer().load("other", "cpu")


def test_files_of_comfyui_s_folders_are_offered(monkeypatch, tmp_path, restorer):
    (tmp_path / "codeprior" / "mine").mkdir(parents=True)
    cp.save(tmp_path / "codeprior" / "mine" / "a.safetensors", restorer.model)
    (tmp_path / "codeprior" / "notes.txt").write_text("no weights")
    monkeypatch.setitem(sys.modules, "folder_paths", types.SimpleNamespace(models_dir=str(tmp_path)))
    offered = comfyui.LoadRestorer.INPUT_TYPES()["required"]["weights"][0]
    assert [name for name in offered if name.endswith(("a.safetensors", ".txt"))] == ["mine/a.safetensors"]
    assert comfyui.LoadRestorer().load("mine/a.safetensors", "cpu")[0].size == 128


def test_aligned_faces_are_restored_as_the_library_does(restorer):
    images = _picture()
    restored, report = comfyui.RestoreFaces().restore(images, restorer, do_no_harm=False, aligned=True)
    pixels = (images[0].numpy() * 255).round().astype(np.uint8)
    choices = cp.photos.restoration.Choices(aligned=True, always=True, colour=True)
    truth = restore_photo(pixels, restorer, choices=choices).pixels
    assert restored.dtype == torch.float32 and restored.shape == (1, *truth.shape)
    assert np.array_equal((restored[0].numpy() * 255).round().astype(np.uint8), truth)
    assert report.startswith("image 0, face 0: ")


def test_the_choice_about_grain_reaches_the_library(restorer, monkeypatch):
    asked = []

    def restore(pixels, restorer, *, detector, choices):
        asked.append(choices.grain)
        raise NoFaceError("none")

    monkeypatch.setattr(nodes, "restore_photo", restore)
    for keep in (True, False):
        comfyui.RestoreFaces().restore(_picture(), restorer, keep_grain=keep)
    assert asked == ["auto", 0.0]
    assert comfyui.RestoreFaces.INPUT_TYPES()["optional"]["keep_grain"][1]["default"] is True  # older workflows lack it


def test_strength_zero_gives_the_face_back(restorer):
    images = torch.nn.functional.interpolate(_picture().movedim(-1, 1), size=(128, 128)).movedim(1, -1).contiguous()
    restored, _ = comfyui.RestoreFaces().restore(images, restorer, strength=0.0, do_no_harm=False, aligned=True)
    assert (restored - images).abs().max() <= 1.01 / 255  # through 8-bit levels and back


def test_an_image_without_a_face_comes_back_and_is_reported(restorer):
    blank = torch.full((2, 80, 100, 4), 0.5)
    restored, report = comfyui.RestoreFaces().restore(blank, restorer)
    assert torch.equal(restored, blank)
    assert [line.split(";")[0] for line in report.splitlines()] == [f"image {n}: no face was found" for n in (0, 1)]


def test_an_image_whose_faces_are_all_too_small_does_not_end_the_batch(restorer, monkeypatch):
    small = from_landmarks([(template(40) + 10).tolist()])
    monkeypatch.setattr(nodes, "_detector", lambda: lambda _: small)
    images = torch.full((2, 80, 100, 3), 0.5)
    restored, report = comfyui.RestoreFaces().restore(images, restorer)
    assert torch.equal(restored, images)
    assert report.count("1 with eyes less than 16 pixels apart") == 2


def test_degraded_images_follow_the_seed(restorer):
    images, node = _picture(), comfyui.DegradeImages()
    first, again, other = (node.degrade(images, "daefr", seed)[0] for seed in (7, 7, 8))
    assert first.shape == images.shape and first.dtype == images.dtype
    assert torch.equal(first, again) and not torch.equal(first, other)
    planes = images.movedim(-1, 1).contiguous()
    truth = cp.degradations.preset("daefr")(planes, generator=torch.Generator().manual_seed(7))
    assert torch.equal(first.movedim(-1, 1), torch.as_tensor(truth))
    # ComfyUI draws seeds of 64 bits
    assert node.degrade(images, "daefr", 2**64 - 1)[0].shape == images.shape


def test_a_photograph_s_face_is_restored_in_place(restorer):
    photo = Image.open(ROOT / "docs" / "images" / "demo.png").convert("RGB")
    images = torch.from_numpy(np.asarray(photo).copy()).float()[None] / 255
    restored, report = comfyui.RestoreFaces().restore(images, restorer, faces="largest", do_no_harm=False)
    assert restored.shape == images.shape and "restored" in report
    assert not torch.equal(restored, images)


def test_the_package_is_a_folder_that_comfyui_loads(tmp_path):
    # as ComfyUI does it: the folder is loaded from its path under a name of its own
    import importlib.util

    home = comfyui.__path__[0]
    where = importlib.util.spec_from_file_location(
        "custom_nodes_codeprior", f"{home}/__init__.py", submodule_search_locations=[home]
    )
    assert where is not None and where.loader is not None
    module = importlib.util.module_from_spec(where)
    where.loader.exec_module(module)
    assert set(module.NODE_CLASS_MAPPINGS) == set(comfyui.NODE_CLASS_MAPPINGS)
    assert nodes.CATEGORY == "image/codeprior"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_images_that_are_none_are_refused_by_name(restorer, bad):
    broken = _picture().repeat(2, 1, 1, 1)
    broken[1, 3, 4, 0] = bad
    for run in (
        lambda images: comfyui.RestoreFaces().restore(images, restorer, aligned=True),
        lambda images: comfyui.DegradeImages().degrade(images, "daefr", 0),
    ):
        with pytest.raises(ValueError, match="image 1 holds NaN or infinity"):
            run(broken)
        with pytest.raises(ValueError, match="expected images b h w c"):
            run(broken[:0])
