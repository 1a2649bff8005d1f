"""Flicker is what changes between frames beyond known motion."""

import math

import numpy as np
import pytest
import torch

from codeprior.metrics import flicker


def test_noise_that_is_new_in_each_frame_is_measured_by_its_formula():
    generator = torch.Generator().manual_seed(0)
    frames = 0.5 + torch.randn(5, 3, 64, 64, generator=generator) * 10 / 255
    assert torch.allclose(flicker(frames), torch.tensor(2 * 10 / math.sqrt(math.pi)), rtol=0.03)
    assert flicker(frames[:1].expand(4, -1, -1, -1)).tolist() == [0, 0, 0]


def test_known_motion_is_taken_out_and_only_the_region_counts():
    y, x = torch.meshgrid(torch.arange(80.0), torch.arange(80.0), indexing="ij")

    def scene(shift: float) -> torch.Tensor:
        return (0.5 + 0.3 * torch.sin((x - shift) / 6) * torch.cos(y / 7)).expand(3, -1, -1)

    frames = torch.stack([scene(1.5 * at) for at in range(4)])
    motion = np.stack([np.array([[1, 0, 1.5 * at], [0, 1, 0]]) for at in range(4)])
    region = torch.zeros(80, 80, dtype=torch.bool)
    region[10:60, 10:60] = True
    assert float(flicker(frames, region=region).min()) > 5
    assert float(flicker(frames, motion, region=region).max()) < 0.2
    frames[2, :, 70:, :] = 0
    assert float(flicker(frames, motion, region=region).max()) < 0.2
    assert float(flicker(frames, motion)[1]) > 5


def test_errors_say_what_was_expected():
    frames = torch.zeros(3, 3, 8, 8)
    with pytest.raises(ValueError, match=r"expected at least two frames \(t, 3, H, W\), got \(1, 3, 8, 8\)"):
        flicker(frames[:1])
    with pytest.raises(ValueError, match=r"expected a matrix per frame \(3, 2, 3\), got \(2, 2, 3\)"):
        flicker(frames, np.zeros((2, 2, 3)))
    with pytest.raises(ValueError, match=r"expected a region \(8, 8\), got \(8, 9\)"):
        flicker(frames, region=torch.zeros(8, 9, dtype=torch.bool))
