"""Outputs recorded from the official GPEN pipeline with OpenCV 4.14 (`shared/parity/gpen/FIXTURES.md`), op by op.

Tolerances: 0 where the arithmetic is the same, 2e-7 where the record's single-precision σ and angle enter, otherwise as
said beside them. Recorded channels are in the order blue, green, red.
"""

import hashlib
import sys

import numpy as np
import pytest
import torch

from codeprior.degradations import GaussianBlur, GaussianNoise, Grey, Jpeg, Op, Params, Resize, ResizeBack, Round
from codeprior.degradations.blur import kernel_matrix
from tests.degradations.reference import ipp_is_avx2
from tests.shared import shared_path


@pytest.fixture(scope="module")
def recorded():
    return np.load(shared_path("parity/degradations/degradation_ops.npz"))


@pytest.fixture(scope="module")
def fill():
    sys.path.insert(0, str(shared_path("parity/fill.py").parent))
    import fill

    return fill


@pytest.fixture(scope="module")
def picture(fill, recorded):
    image = ((fill.image_for("degrade", 1, 64)[0] + 1) / 2).clamp(0, 1)
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == str(recorded["img_sha256"])
    return planes(pixels)


def planes(pixels: np.ndarray) -> torch.Tensor:
    """`H W BGR` as `RGB H W`."""
    return torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1)))


def drawn(op: Op, image: torch.Tensor) -> Params:
    return op.sample(image, torch.Generator().manual_seed(0))


def agree(op: Op, image: torch.Tensor, truth: np.ndarray, *, values: dict | None = None, atol: float = 0.0) -> None:
    """Both implementations of an op give the recorded pixels."""
    params = drawn(op, image).replace(values or {})
    for impl in ("cpu", "torch"):
        result = op.apply(image, params, mode="strict", impl=impl)
        assert isinstance(result, torch.Tensor)
        torch.testing.assert_close(result, planes(truth), atol=atol, rtol=0)


def gaussian(size: int, sigma: tuple[float, float], angle: float) -> np.ndarray:
    fields = {"kind": 0, "size": size, "sigma": sigma, "angle": angle, "shape": 1}
    return kernel_matrix({name: np.asarray(value, np.float64) for name, value in fields.items()})


def test_kernels(recorded):
    for name, values in {
        "k41_iso_s3": (41, (3, 3), 0),
        "k41_aniso_s2_s7_t0.6": (41, (2, 7), 0.6),
        "k39_aniso_s0.5_s10_t-2": (39, (0.5, 10), -2),
    }.items():
        # the same formula in double precision
        np.testing.assert_allclose(gaussian(*values), recorded[name], atol=1e-15)
    centre = gaussian(41, (0.1, 0.1), 0)[19:22, 19:22]
    np.testing.assert_allclose(centre, recorded["k41_iso_s0.1_center"], atol=1e-15)


def test_blur(recorded, picture):
    values = {"sigma": [2.0, 7.0], "angle": 0.6}
    agree(GaussianBlur(sigma=(2, 2)), picture, recorded["blur"], values=values, atol=2e-7)


def test_bilinear_reduction_to_the_bit(recorded):
    blurred = planes(recorded["blur"])
    # recorded with IPP on AVX2; the installed OpenCV's last place may be another without it
    agree(Resize(factor=(3.7, 3.7)), blurred, recorded["down_linear_17"], atol=0 if ipp_is_avx2() else 2.4e-7)


def test_a_factor_of_0_8_rounds_as_floats_do(recorded, picture):
    assert drawn(Resize(factor=(0.8, 0.8)), picture).values["size"].tolist() == [list(recorded["r0.8_shape"][:2])]
    # 512 / 0.8 is 640, but 512 // 0.8 is 639
    assert Resize(factor=(0.8, 0.8)).sample((512, 512), torch.Generator()).values["size"].tolist() == [[639, 639]]


def test_noise_is_added_at_eight_bit_levels_and_clipped(recorded, fill, monkeypatch):
    """The recorded field in place of ours: what is done with it is the same."""
    field = fill.tensor_for("degrade.noise", (17, 17, 3)).numpy() * np.sqrt(51)
    image, op = planes(recorded["down_linear_17"]), GaussianNoise(sigma=(12.5, 12.5))
    monkeypatch.setattr("codeprior.degradations.noise.normal_canvas", lambda *_: planes(field)[None])
    result = op.apply(image, drawn(op, image), impl="torch")
    # one rounding of the field's scale
    torch.testing.assert_close(result, planes(recorded["noise_12.5"]), atol=6e-8, rtol=0)


def test_jpeg(recorded):
    # the recorded float is level / 255 in double precision
    agree(Jpeg(quality=(60, 60)), planes(recorded["noise_12.5"]), recorded["jpeg_q60"], atol=6e-8)


def test_rounding_to_eight_bits(recorded):
    agree(Round(), planes(recorded["noise_12.5"]), recorded["round"])


def test_bilinear_enlargement(recorded):
    small, op = planes(recorded["round"]), ResizeBack()
    params = drawn(op, small).replace(size=[64, 64])
    result = op.apply(small, params, mode="strict")
    # recorded with IPP on AVX2; on other processors the outermost columns differ by units in the last place
    torch.testing.assert_close(result, planes(recorded["back_linear_64"]), atol=0 if ipp_is_avx2() else 2.4e-7, rtol=0)
    result = op.apply(small, params, mode="strict", impl="torch")
    torch.testing.assert_close(result, planes(recorded["back_linear_64"]), atol=6e-8, rtol=0)


def test_grey(recorded, picture):
    # the order of three additions in single precision
    agree(Grey(), picture, np.repeat(recorded["gray_bgr"][..., None], 3, 2), atol=1.2e-7)


@pytest.mark.parametrize(("name", "interpolation"), [("area_48", "area"), ("area_32", "area"), ("cubic_8", "bicubic")])
def test_other_interpolations(recorded, picture, name, interpolation):
    size = list(recorded[name].shape[:2])
    # torch sums in double precision, OpenCV in single
    agree(Resize(factor=(2, 2), interpolation=interpolation), picture, recorded[name], values={"size": size}, atol=1e-6)
