"""How a chain is printed, and how test sets that were drawn from it name it."""

import hashlib
import io

import numpy as np
import pytest
import torch
from PIL import Image

from codeprior.degradations import GaussianNoise, Maybe, definition, preset, steps

pytestmark = pytest.mark.filterwarnings("ignore:preset")


def test_a_chain_names_its_parts_only():
    assert repr(preset("daefr")) == "Chain(gaussian_blur, resize, gaussian_noise, jpeg, resize_back, round)"
    assert len(repr(preset("realesrgan"))) < 120


def test_a_step_is_printed_in_a_line_and_shown():
    image = torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(0))
    noise = GaussianNoise(sigma=(1, 2))
    (step,) = steps(noise, image, noise.sample(image, torch.Generator().manual_seed(0)))
    assert repr(step) == "Step(GaussianNoise, image 3×8×12 uint8)"
    with Image.open(io.BytesIO(step._repr_png_())) as shown:
        assert np.array_equal(np.asarray(shown), step.image.permute(1, 2, 0).numpy())


def test_the_definition_says_every_range_of_every_part():
    assert definition(preset("lcqs-mild")) == (
        "Chain(ops=(Resize(factor=(8, 8), interpolation='bicubic', rules='cv2'), Round(), "
        "Jpeg(quality=(90, 95), cast='round'), ResizeBack(divide=1, interpolation='bicubic', rules='cv2'), Round()))"
    )
    noise = GaussianNoise(sigma=(1, 2))
    assert definition(noise) == repr(noise)
    assert definition(Maybe(op=noise, chance=0.5)) == repr(Maybe(op=noise, chance=0.5))


# of the texts in test sets that were saved before chains had a short repr
_SAVED = {
    "codeformer-II": "481391caa3e2",
    "daefr": "0992dc9e793b",
    "realesrgan": "1786fdbfaebe",
    "restoreformer": "6c1f21b43bde",
    "vqfr-v2": "c7f6811b7745",
}


@pytest.mark.parametrize("name", _SAVED)
def test_test_sets_that_were_saved_before_keep_their_definition(name):
    assert hashlib.sha256(definition(preset(name)).encode()).hexdigest()[:12] == _SAVED[name]
