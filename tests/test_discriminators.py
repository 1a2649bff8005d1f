"""PatchGAN: the reference's layout and start, what a score sees, and what each norm promises."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from codeprior.discriminators import PartDiscriminator, PatchGAN, StyleGANDiscriminator, WaveletDiscriminator
from codeprior.layers.configured import build


def test_layout_and_count_are_the_reference_ones():
    judge = PatchGAN()
    shapes = {key: tuple(value.shape) for key, value in judge.state_dict().items() if value.ndim == 4}
    assert shapes == {
        "main.0.weight": (64, 3, 4, 4), "main.2.weight": (128, 64, 4, 4), "main.5.weight": (256, 128, 4, 4),
        "main.8.weight": (512, 256, 4, 4), "main.11.weight": (1, 512, 4, 4),
    }  # fmt: skip
    # daefr.md b.3: 2 765 633 parameters and 1 795 buffer numbers
    assert sum(parameter.numel() for parameter in judge.parameters()) == 2_765_633
    assert sum(buffer.numel() for buffer in judge.buffers()) == 1_795
    assert {"main.2.bias", "main.5.bias", "main.8.bias"}.isdisjoint(judge.state_dict())


def test_weights_start_as_the_reference_says():
    torch.manual_seed(0)
    judge = PatchGAN()
    assert judge.main[5].weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert judge.main[5].weight.mean().item() == pytest.approx(0, abs=2e-4)
    gains = torch.cat([judge.main[i].weight.detach() for i in (3, 6, 9)])
    assert gains.mean().item() == pytest.approx(1, abs=0.003)
    assert gains.std().item() == pytest.approx(0.02, rel=0.15)
    assert not any(judge.main[i].bias.any() for i in (3, 6, 9))


def test_a_score_sees_seventy_pixels():
    judge = PatchGAN(8, norm="none").double()
    image = torch.randn(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    judge(image)[0, 0, 7, 7].backward()
    seen = image.grad.abs().sum((0, 1)) > 0
    assert int(seen.any(0).sum()) == int(seen.any(1).sum()) == 70


@given(st.integers(1, 4), st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=15, deadline=None)
def test_score_map_has_the_size_of_the_convolutions(layers: int, more_height: int, more_width: int):
    sides = [8 * 2**layers + more for more in (more_height, more_width)]
    expected = []
    for side in sides:
        for _ in range(layers):
            side = (side - 2) // 2 + 1
        expected.append(side - 2)
    with torch.no_grad():
        scores = PatchGAN(2, layers, norm="none")(torch.zeros(1, 3, *sides))
    assert tuple(scores.shape) == (1, 1, *expected)


@pytest.mark.parametrize("norm", ["group", "none"])
def test_scores_without_batch_statistics_ignore_the_batch(norm):
    torch.manual_seed(0)
    judge = PatchGAN(8, norm=norm).double().train()
    images = torch.randn(4, 3, 48, 48, dtype=torch.float64)
    assert torch.allclose(judge(images), torch.cat([judge(image[None]) for image in images]), atol=1e-12)


def test_batch_statistics_tie_the_scores_of_a_batch_together():
    torch.manual_seed(0)
    judge, images = PatchGAN(8).double().train(), torch.randn(4, 3, 48, 48, dtype=torch.float64)
    assert not torch.allclose(judge(images)[:1], judge(images[:1]), atol=1e-3)


def test_sync_norm_takes_batch_weights():
    state = PatchGAN(8).state_dict()
    judge = PatchGAN(8, norm="sync")
    judge.load_state_dict(state)
    assert isinstance(judge.main[3], nn.SyncBatchNorm)


def test_it_remembers_how_it_was_built():
    judge = PatchGAN(4, 2, norm="group")
    again = build(judge.config)
    assert again.config == judge.config == {"class": "PatchGAN", "channels": 4, "layers": 2, "norm": "group"}
    again.load_state_dict(judge.state_dict())


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="norm is 'batch', 'sync', 'group', 'none' or 'spectral', got 'layer'"):
        PatchGAN(norm="layer")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="at least 1 channel and 1 layer, got 4 and 0"):
        PatchGAN(4, 0)


def test_a_stylegan_discriminator_has_the_published_count():
    with torch.device("meta"):
        counts = {size: StyleGANDiscriminator(size) for size in (512, 1024, 2048)}
    # gan_family.md 1.1: parameters of the discriminators at multiplier 2
    assert {size: sum(p.numel() for p in judge.parameters()) for size, judge in counts.items()} == {
        512: 28_982_849, 1024: 29_012_513, 2048: 29_019_921,
    }  # fmt: skip


def test_a_stylegan_discriminator_gives_one_score_an_image_and_a_feature_a_layer():
    judge = StyleGANDiscriminator(32, narrow=1 / 64)
    found = judge.judge(torch.randn(3, 3, 32, 32))
    assert found.scores.shape == (3, 1)
    assert [tuple(value.shape[1:]) for value in found.features] == [
        (8, 32, 32), (8, 16, 16), (8, 8, 8), (8, 4, 4), (8, 4, 4),
    ]  # fmt: skip
    torch.testing.assert_close(judge(torch.zeros(2, 3, 32, 32)), judge.judge(torch.zeros(2, 3, 32, 32)).scores)


def test_scores_of_a_stylegan_discriminator_depend_on_their_group_alone():
    torch.manual_seed(0)
    whole, pairs = StyleGANDiscriminator(8, narrow=1 / 64), StyleGANDiscriminator(8, narrow=1 / 64, group=2)
    pairs.load_state_dict(whole.state_dict())
    images = torch.randn(4, 3, 8, 8)
    assert not torch.allclose(whole(images), whole(images[[0, 2]]).repeat(2, 1), atol=1e-5)
    # samples 0 and 2 are one group
    torch.testing.assert_close(pairs(images)[[0, 2]], whole(images[[0, 2]]))
    assert build(pairs.config).group == 2


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="StyleGANDiscriminator: expected 16×16 images, got 8×16; resize them"):
        StyleGANDiscriminator(16, narrow=1 / 64)(torch.zeros(1, 3, 16, 8))


def test_a_part_is_judged_place_by_place_and_by_itself():
    torch.manual_seed(0)
    judge, crops = PartDiscriminator(4).double(), torch.rand(3, 3, 16, 24, dtype=torch.float64) * 2 - 1
    found = judge.judge(crops)
    assert tuple(found.scores.shape) == (3, 1, 4, 6) and torch.equal(judge(crops), found.scores)
    assert [tuple(feature.shape) for feature in found.features] == [(3, 8, 8, 12), (3, 16, 4, 6)]
    alone = torch.cat([judge(crop[None]) for crop in crops])
    torch.testing.assert_close(found.scores, alone, rtol=0, atol=1e-12)
    assert torch.equal(build(judge.config)(crops[:1].float()).detach().isfinite(), torch.ones(1, 1, 4, 6).bool())
    with pytest.raises(ValueError, match="PartDiscriminator: expected at least 1 channel, got 0"):
        PartDiscriminator(0)


def test_wavelets_see_an_image_band_by_band_and_keep_its_energy():
    from codeprior.discriminators import _haar

    torch.manual_seed(0)
    image = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    bands = _haar(image)
    torch.testing.assert_close(bands.square().sum(), image.square().sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(bands[:, :3] / 2, nn.functional.avg_pool2d(image, 2), rtol=0, atol=1e-12)
    flat = _haar(torch.ones(1, 3, 16, 16))
    assert torch.equal(flat[:, 3:], torch.zeros(1, 9, 8, 8))
    across = torch.tensor([1.0, -1.0]).repeat(8).expand(1, 3, 16, 16)
    assert [bool(part.any()) for part in _haar(across).chunk(4, 1)] == [False, True, False, False]


def test_a_judge_of_wavelets_has_a_level_for_every_size_and_refuses_others():
    torch.manual_seed(0)
    judge = WaveletDiscriminator(32, narrow=1 / 64)
    found = judge.judge(torch.randn(2, 3, 32, 32))
    assert tuple(found.scores.shape) == (2, 1)
    assert [feature.shape[-1] for feature in found.features] == [16, 8, 4, 4]
    assert len(judge.looks) == 3 and len(judge.blocks) == 2
    with pytest.raises(ValueError, match="WaveletDiscriminator: expected 32×32 images, got 16×32"):
        judge(torch.zeros(1, 3, 32, 16))
    with pytest.raises(ValueError, match="WaveletDiscriminator: expected a size that is a power of two, 16 or more"):
        WaveletDiscriminator(8)
