"""What people try in a notebook and get wrong is answered in this library's words, with the way out."""

import builtins
import importlib
import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import ExifTags
from PIL import Image as Pictures

import codeprior as cp
from codeprior import extras
from codeprior.__main__ import main
from codeprior.devices import usable_device
from codeprior.kernels import lookup, nearest_code, residual_code
from codeprior.layers import Tap
from codeprior.losses import PerceptualLoss
from codeprior.photos.pictures import from_picture, upright
from codeprior.restorers import load_restorer


@pytest.mark.parametrize("op", [nearest_code, lookup], ids=["nearest_code", "lookup"])
def test_integer_latents_are_refused_by_type(op):
    with pytest.raises(TypeError, match="expected latent as a tensor of floating-point numbers, got torch.int64"):
        op(torch.zeros(2, 4, dtype=torch.int64), torch.zeros(3, 4))
    with pytest.raises(TypeError, match="expected codebook as a tensor of floating-point numbers, got ndarray"):
        op(torch.zeros(2, 4), np.zeros((3, 4)))
    with pytest.raises(TypeError, match="residual_code: expected latent as .* got torch.int64"):
        residual_code(torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 3, 4))


def test_an_unknown_network_is_named_before_its_weights_are_asked_for():
    with pytest.raises(ValueError, match=r"PerceptualLoss: expected .*mobilenet_v2 or timm:NAME, got 'mobilenet'"):
        PerceptualLoss("mobilenet")


def test_an_unknown_embedded_prior_lists_those_that_are_there():
    from codeprior.recipes.daefr import load

    with pytest.raises(FileNotFoundError, match=r"no embedded weights of that name; embedded are: small\."):
        load("large")


def test_a_device_that_is_not_here_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    from codeprior.recipes.daefr import load

    with pytest.raises(ValueError, match="load: device cuda: there is none here that torch can use"):
        load("small", device="cuda")
    with pytest.raises(ValueError, match="--device gpu is no device; give cpu, cuda"):
        usable_device("--device", "gpu")
    assert usable_device("x", "cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert usable_device("x", "cuda:1").index == 1
    with pytest.raises(ValueError, match="there are 2 here, counted from cuda:0"):
        usable_device("x", "cuda:2")


PACKAGES = {
    "cv2": (lambda: importlib.import_module("codeprior.degradations.jpeg").jpeg_levels(
        np.zeros((8, 8, 3), np.uint8), 50), r"pip install 'codeprior\[degradations\]'"),
    "timm": (lambda: cp.TimmEncoder("resnet18", 8), "pip install timm"),
    "tensorboard": (lambda: importlib.import_module("codeprior.training.loggers").TensorBoardLogger("nowhere"),
                    r"pip install 'codeprior\[train\]'"),
    "dlib": (lambda: importlib.import_module("codeprior.metrics").DlibLandmarks(), r"pip install 'codeprior\[eval\]'"),
    "matplotlib": (lambda: importlib.import_module("codeprior.commands.verify")._plot(None, {}),
                   r"pip install 'codeprior\[eval\]'"),
    "numba": (lambda: importlib.reload(importlib.import_module("codeprior.degradations._native")),
              r"pip install 'codeprior\[degradations\]'"),
}  # fmt: skip


@pytest.mark.parametrize("package", PACKAGES)
def test_a_missing_package_names_the_command_that_brings_it(package, monkeypatch):
    use, command = PACKAGES[package]
    plain = builtins.__import__

    def without(name, *rest, **more):
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return plain(name, *rest, **more)

    importlib.import_module("codeprior.degradations._native")
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=f"needs the package .*, which .*: {command}"):
        use()


def test_lpips_heads_without_the_package_name_the_extra(monkeypatch):
    from codeprior.metrics import WeightsMissing, lpips_heads

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsMissing, match=r"lpips: .*is not installed; pip install 'codeprior\[eval\]'"):
        lpips_heads()


def test_a_package_that_breaks_while_it_is_imported_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match=r"me needs the package broken_package, which cannot be imported .*libGL"):
        extras.needed("broken_package", who="me")


def test_weights_that_timm_cannot_fetch_are_explained(monkeypatch):
    import timm

    def offline(name, *, pretrained=False, **rest):
        if pretrained:
            raise OSError("Max retries exceeded")
        return made(name, pretrained=False, **rest)

    made = timm.create_model
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(RuntimeError, match=r"could not fetch the weights of resnet18 \(OSError\); set"):
        cp.TimmEncoder("resnet18", 8, pretrained=True)


def test_the_output_may_stand_behind_an_option(tmp_path, capsys):
    assert main(["restore", str(tmp_path / "a.png"), "--batch", "0", str(tmp_path / "out")]) == 2
    assert "--batch must be at least 1" in capsys.readouterr().err
    assert main(["restore", str(tmp_path / "a.png"), "--batch", "1", str(tmp_path / "out"), "--zzz"]) == 2
    said = capsys.readouterr().err
    assert "unrecognized arguments: --zzz; codeprior restore --help lists its options" in said


def test_an_option_that_is_written_wrongly_is_told_the_one_that_was_meant(capsys):
    assert main(["restore", "a.png", "out", "--fidelty=0.3"]) == 2
    assert "unrecognized arguments: --fidelty=0.3 (did you mean --fidelity?)" in capsys.readouterr().err


def test_a_folder_named_as_the_embedded_weights_is_not_taken_for_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    assert load_restorer().size == 128
    with pytest.raises(FileNotFoundError, match="there is no file small, and no embedded weights of that name"):
        load_restorer(family="gfpgan")


def test_a_warning_of_the_library_is_a_sentence_on_the_command_line(tmp_path):
    (tmp_path / "a.png").touch()
    call = [sys.executable, "-m", "codeprior", "degrade", "a.png", "a.png", "--preset", "lcqs-mild"]
    # the picture would replace itself, so that nothing is degraded
    done = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 3
    lines = done.stderr.splitlines()
    assert lines[0].startswith("warning: preset 'lcqs-mild' is partial: 8-bit rounding")
    assert lines[1].startswith("error: a.png: its result a.png would replace the photograph itself")


_SMALL = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (), "groups": 4}


def test_a_decoder_says_which_values_it_takes():
    decoder = cp.VQGANDecoder(8, **_SMALL)
    for wrong in (torch.randn(1, 9, 4, 4), torch.randn(8, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)):
        with pytest.raises(
            ValueError, match=r"VQGANDecoder: expected values b 8 h w, got .*; indices become values by"
        ):
            decoder(wrong)
    with pytest.raises(TypeError, match="its weights are torch.float32, what it is given torch.float64; convert one"):
        decoder(torch.randn(1, 8, 4, 4).double())
    with pytest.raises(TypeError, match="VQGANDecoder: expected a tensor b 8 h w, got ndarray"):
        decoder(np.zeros((1, 8, 4, 4)))


@pytest.mark.parametrize("given", [None, torch.zeros(1, 3, 4, 4)])
def test_a_tap_that_gives_no_feature_back_is_told_to(given):
    decoder = cp.VQGANDecoder(8, **_SMALL)
    with pytest.raises(ValueError, match=r"a tap was given a feature of shape \(1, 16, 4, 4\) and returned .*; return"):
        decoder(torch.randn(1, 8, 4, 4), {Tap(2): lambda feature: given})


CODEBOOKS = {
    "Codebook": lambda: cp.Codebook(16, 8),
    "MovingAverageCodebook": lambda: cp.MovingAverageCodebook(16, 8),
    "CosineCodebook": lambda: cp.codebooks.CosineCodebook(16, 8),
    "SimVQCodebook": lambda: cp.codebooks.SimVQCodebook(16, 8),
    "FiniteScalarCodebook": lambda: cp.codebooks.FiniteScalarCodebook((4, 2, 2)),
    "LookupFreeCodebook": lambda: cp.codebooks.LookupFreeCodebook(4),
}
SEVERAL = {
    "GroupedCodebook": lambda: cp.codebooks.GroupedCodebook(cp.Codebook(16, 8), groups=2),
    "ResidualCodebook": lambda: cp.codebooks.ResidualCodebook(cp.Codebook(16, 8), stages=2),
    "implicit stages": lambda: cp.codebooks.ResidualCodebook(cp.codebooks.LookupFreeCodebook(4), stages=2),
}


def refuses_numbers_of_no_code(book, at):
    """`at` makes indices of the shape that the codebook takes from a list of numbers."""
    with pytest.raises(ValueError, match="lookup: expected indices from 0 to 15, got 0 to 16"):
        book.lookup(at([0, 16]))
    with pytest.raises(ValueError, match="lookup: expected indices from 0 to 15, got -[12] to 3"):
        book.lookup(at([-2, 3]))
    with pytest.raises(TypeError, match="lookup: expected indices b .*h w of int64 or int32, got torch.float32"):
        book.lookup(at([0, 1]).float())
    with pytest.raises(TypeError, match="lookup: expected indices b .*h w of int64 or int32, got ndarray"):
        book.lookup(at([0, 1]).numpy())
    assert torch.equal(book.lookup(at([3, 15])), book.lookup(at([3, 15]).int()))
    assert book.lookup(at([15, 15])).shape == (1, book.dim, 1, 2)
    assert book.lookup(at([0, 1])[:0]).shape == (0, book.dim, 1, 2)


@pytest.mark.parametrize("name", CODEBOOKS)
def test_a_codebook_says_which_indices_it_has(name):
    book = CODEBOOKS[name]()
    refuses_numbers_of_no_code(book, lambda numbers: torch.tensor([[numbers]]))
    with pytest.raises(ValueError, match=r"lookup: expected indices b h w, got \(2, 2\)"):
        book.lookup(torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"lookup: expected indices b h w, got \(1, 1, 2, 2\)"):
        book.lookup(torch.zeros(1, 1, 2, 2, dtype=torch.int64))


@pytest.mark.parametrize("name", SEVERAL)
def test_several_tables_say_which_indices_they_have(name):
    book = SEVERAL[name]()
    refuses_numbers_of_no_code(book, lambda numbers: torch.tensor([[[numbers]] * 2]))
    for shape in ((1, 2, 2), (1, 3, 2, 2), (1, 0, 2, 2)):
        said = rf"{type(book).__name__}.lookup: expected indices b m h w with m.* got \({shape[0]}, {shape[1]}, "
        with pytest.raises(ValueError, match=said):
            book.lookup(torch.zeros(shape, dtype=torch.int64))


def test_indices_that_a_decoder_shows_are_looked_at():
    book = cp.codebooks.FiniteScalarCodebook((4, 2))
    autoencoder = cp.VQGAN(cp.VQGANEncoder(2, **_SMALL), book, cp.VQGANDecoder(2, **_SMALL))
    for shown in (autoencoder, autoencoder.prior()):
        with pytest.raises(ValueError, match="lookup: expected indices from 0 to 7, got 0 to 8"):
            shown.decode_indices(torch.tensor([[[0, 8]]]))


@pytest.mark.parametrize(
    "kind", [cp.Codebook, cp.MovingAverageCodebook, cp.codebooks.CosineCodebook, cp.codebooks.SimVQCodebook]
)
def test_a_table_has_a_code(kind):
    with pytest.raises(
        ValueError, match=rf"{kind.__name__}: expected at least 1 code of at least 1 number, got size=0"
    ):
        kind(0, 8)


@pytest.mark.parametrize("kind", [cp.fusion.FeatureModulation, cp.fusion.ControllableTransform])
def test_a_guide_of_another_grid_or_width_is_told(kind):
    module = kind(16, 8, groups=8)
    feature, guide = torch.randn(2, 16, 4, 4), torch.randn(2, 8, 4, 4)
    assert module(feature, guide, 0.5).shape == feature.shape
    for wrong in (torch.randn(2, 8, 2, 2), torch.randn(2, 16, 4, 4), torch.randn(1, 8, 4, 4), torch.randn(8, 4, 4)):
        with pytest.raises(
            ValueError, match=rf"{kind.__name__}: expected a feature b 16 h w and a guide b 8 h w on one"
        ):
            module(feature, wrong)


def test_losses_say_which_scale_and_indices_they_take():
    latent = torch.randn(1, 8, 4, 4)
    for scale in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="association_loss: expected a scale above 0, got .*CLIP starts it"):
            cp.association_loss(latent, latent, scale=scale)
    with pytest.raises(ValueError, match=r"paired latents of one shape b d h w, got \(4, 8\)"):
        cp.association_loss(torch.randn(4, 8), torch.randn(4, 8), scale=1.0)
    for loss in (cp.code_loss, cp.losses.code_accuracy):
        with pytest.raises(TypeError, match="expected indices as integers, got torch.float32; the numbers of codes"):
            loss(torch.randn(1, 4, 4, 16), torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="expected an even window of at least 2 pixels, .* got 8 for 1×1 pixels"):
        cp.losses.hatch_loss(torch.rand(1, 3, 1, 1), torch.rand(1, 3, 1, 1))
    with pytest.raises(ValueError, match=r"CodePredictor: expected grid=\(rows, columns\), got 16"):
        cp.CodePredictor(8, 16, grid=16)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("given", [3, (1, 2, 3), "12", (None, 1), (20, 2)])
def test_a_range_of_an_op_is_two_numbers(given):
    with pytest.raises(ValueError, match=r"GaussianNoise: expected sigma=\(low, high\) with low ≤ high, got "):
        cp.degradations.GaussianNoise(sigma=given)
    assert cp.degradations.GaussianNoise(sigma=(np.float32(1), 2)).sigma[1] == 2


def test_what_an_op_is_made_of_are_ops():
    noise = cp.degradations.GaussianNoise()
    for kind, words in (("Chain", {}), ("OneOf", {}), ("Shuffle", {})):
        for wrong in ((noise, 3), noise, [noise], (cp.degradations.GaussianNoise,)):
            with pytest.raises(TypeError, match=rf"{kind}: expected a tuple of ops, such as GaussianBlur\(\), got "):
                getattr(cp.degradations, kind)(ops=wrong, **words)
    with pytest.raises(TypeError, match="Maybe: expected a tuple of ops"):
        cp.degradations.Maybe(op=3, chance=0.5)  # pyright: ignore[reportArgumentType]


def test_a_photograph_given_for_a_face_is_told_where_to_go():
    restorer = load_restorer()
    with pytest.raises(ValueError, match=r"restorer: 40×80 pixels are too far from a square .*; restorer.photograph"):
        restorer(torch.rand(3, 40, 80))
    with pytest.raises(TypeError, match="photograph: expected a PIL image or an array .*, got str; open a file with"):
        restorer.photograph("a.jpg")
    with pytest.raises(TypeError, match="photograph: expected a PIL image or an array .*, got Tensor; open"):
        restorer.photograph(torch.rand(1, 3, 40, 40))


def test_a_picture_of_a_turned_phone_is_turned_first():
    exif = Pictures.Exif()
    exif[ExifTags.Base.Orientation] = 6
    written = io.BytesIO()
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, :10] = 255  # the left third is the top when it is shown
    Pictures.fromarray(pixels).save(written, "PNG", exif=exif)
    picture = Pictures.open(io.BytesIO(written.getvalue()))
    taken = from_picture(picture)
    assert taken.shape == (1, 3, 30, 20)
    assert (taken[..., :10, :] == 1).all() and (taken[..., 10:, :] == 0).all()
    assert upright(picture).size == (20, 30)
