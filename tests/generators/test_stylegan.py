"""The StyleGAN2 generator: what styles, noise and truncation do; its outputs are compared in tests/parity/test_gpen."""

import pytest
import torch

from codeprior.generators import MappingNetwork, StyleGANGenerator, SynthesisNetwork, mixed_styles
from codeprior.layers import build


def _generator(size: int = 16, noise="added") -> StyleGANGenerator:
    torch.manual_seed(0)
    synthesis = SynthesisNetwork(size, dim=8, narrow=1 / 64, noise=noise)
    for conv in synthesis.convs:
        if conv.noise_weight is not None:
            torch.nn.init.constant_(conv.noise_weight, 0.3)
    return StyleGANGenerator(MappingNetwork(8, layers=2), synthesis).double()


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("noise", ["concatenated", "added", "none"])
@pytest.mark.parametrize("size", [8, 32])
def test_any_power_of_two_gives_images_of_that_size(size, noise):
    model = _generator(size, noise)
    given = None if noise == "none" else model.synthesis.noise(3, generator=_rng())
    assert model(torch.randn(3, 8).double(), noise=given).shape == (3, 3, size, size)


def test_one_style_is_the_same_as_that_style_in_every_slot():
    model = _generator()
    style = model.styles(torch.randn(2, 8, generator=_rng()).double())
    noise = model.synthesis.noise(2, generator=_rng())
    assert model.synthesis.slots == 6
    torch.testing.assert_close(
        model.synthesis(style, noise=noise),
        model.synthesis(mixed_styles(style, style, start=3, slots=6), noise=noise),
    )  # fmt: skip


def test_each_slot_moves_the_image_and_late_ones_move_its_coarse_picture_least():
    model = _generator()
    styles = torch.randn(1, 6, 8, generator=_rng()).double()
    before = model.synthesis(styles)
    for slot in range(6):
        moved = styles.clone()
        moved[:, slot] += 1
        assert not torch.allclose(model.synthesis(moved), before)


def test_truncation_pulls_styles_to_the_mean():
    model, z = _generator(), torch.randn(4, 8, generator=_rng()).double()
    mean = model.mapping.mean(count=64, generator=_rng(1))
    whole = model.styles(z)
    torch.testing.assert_close(model.styles(z, truncation=0.25, mean=mean), 0.75 * mean + 0.25 * whole)
    torch.testing.assert_close(model.styles(z, truncation=0, mean=mean), mean.expand(4, 8))
    with pytest.raises(ValueError, match="truncation needs mean="):
        model(z, truncation=0.5)


def test_a_latent_has_no_length():
    mapping, z = MappingNetwork(8, layers=2).double(), torch.randn(2, 8).double()
    torch.testing.assert_close(mapping(z), mapping(5 * z), rtol=1e-6, atol=1e-6)


def test_noise_is_drawn_from_its_generator_and_changes_the_image():
    model, z = _generator(), torch.randn(1, 8).double()
    first, again, other = (model.synthesis.noise(1, generator=_rng(seed)) for seed in (0, 0, 1))
    assert [tuple(value.shape) for value in first] == [(1, 8, side, side) for side in (4, 8, 8, 16, 16)]
    torch.testing.assert_close(model(z, noise=first), model(z, noise=again), rtol=0, atol=0)
    assert not torch.allclose(model(z, noise=first), model(z, noise=other))
    one = model.synthesis.noise(1, generator=_rng(), channels=1)
    assert {value.shape[1] for value in one} == {1}
    assert model(z, noise=one).isfinite().all()


def test_counts_that_do_not_fit_are_refused():
    synthesis = _generator().synthesis
    with pytest.raises(ValueError, match=r"at 16 px expected 6 styles of width 8, b n d, or one, b d; got \(1, 5, 8\)"):
        synthesis(torch.zeros(1, 5, 8).double())
    with pytest.raises(ValueError, match="at 16 px expected 5 maps of noise, got 1"):
        synthesis(torch.zeros(1, 8).double(), noise=[torch.zeros(1, 8, 4, 4)])
    with pytest.raises(ValueError, match="SynthesisNetwork: expected a size that is a power of two"):
        SynthesisNetwork(48)


def test_a_generator_is_built_again_from_its_record():
    model = _generator()
    again = build(model.config)
    assert [tuple(value.shape) for value in again.parameters()] == [tuple(value.shape) for value in model.parameters()]


def test_a_tap_changes_the_feature_after_the_first_convolution_of_its_side():
    model = _generator().synthesis
    styles = torch.randn(2, 6, 8, generator=_rng()).double()
    seen = {}

    def keep(feature):
        seen[feature.shape[-1]] = feature
        return feature

    assert torch.equal(model(styles, taps={8: keep, 16: keep}), model(styles))
    assert {side: tuple(feature.shape) for side, feature in seen.items()} == {8: (2, 8, 8, 8), 16: (2, 8, 16, 16)}
    halved = model(styles, taps={16: lambda feature: feature / 2})
    assert not torch.allclose(halved, model(styles))
    model.convs[4].register_forward_pre_hook(lambda _, given: seen.update(second=given[0]))
    model(styles, taps={16: lambda feature: feature + 1})
    torch.testing.assert_close(seen["second"], seen[16] + 1)
    with pytest.raises(ValueError, match="taps stand at the sides 8, 16, got 4, 32"):
        model(styles, taps={4: keep, 32: keep})


def test_grids_are_doubled_by_interpolation_where_asked():
    torch.manual_seed(0)
    model = SynthesisNetwork(16, dim=8, narrow=1 / 64, bilinear=True).double()
    styles = torch.randn(2, 6, 8, generator=_rng()).double()
    seen = {}
    model.convs[0].register_forward_hook(lambda _, __, answer: seen.update(before=answer))
    model.convs[1].conv.register_forward_hook(lambda _, __, answer: seen.update(after=answer))
    image = model(styles)
    assert image.shape == (2, 3, 16, 16)
    large = torch.nn.functional.interpolate(seen["before"], scale_factor=2, mode="bilinear")
    weight = model.convs[1].conv.weights(styles[:, 1])
    alone = [torch.nn.functional.conv2d(one[None], own, padding=1) for one, own in zip(large, weight, strict=True)]
    torch.testing.assert_close(seen["after"], torch.cat(alone))
