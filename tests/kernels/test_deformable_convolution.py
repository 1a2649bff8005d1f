"""The deformable convolution is its definition, whichever implementation runs, and leaves gradients to torchvision."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.library import opcheck
from torch.nn import functional as F

from codeprior.kernels import ImplUnavailable, _compile, deformable_convolution, use_impl
from codeprior.kernels.deformable_convolution.api import deformable_convolution_op

# of the sum of magnitudes: 6.3e-7 at worst in 1,000 drawn cases; places are rounded to float32 too
ROUNDING = 2e-6


def _inputs(height, width, groups, spread, *, members=2, outs=3, batch=2, seed=7, dtype=torch.float32):
    generator, channels = torch.Generator().manual_seed(seed), members * groups

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    moved = {
        "offsets": spread * draw(batch, 18 * groups, height, width),
        "mask": draw(batch, 9 * groups, height, width),
    }
    return (draw(batch, channels, height, width), draw(outs, channels, 3, 3), draw(outs)), moved


def _definition(feature, weight, bias, offsets, mask):
    """The sum over taps and corners, place by place, and the sum of magnitudes; float64."""
    batch, channels, height, width = feature.shape
    groups = mask.shape[1] // 9
    padded = F.pad(feature.double(), (2, 2, 2, 2))  # two places of zeros: what is farther outside is moved there
    answer = bias.double()[:, None, None].expand(batch, -1, height, width).clone()
    sizes = answer.abs()
    for tap in range(9):
        for group in range(groups):
            number = 9 * group + tap
            rows = torch.arange(height)[:, None] + tap // 3 - 1
            columns = torch.arange(width) + tap % 3 - 1
            y = (offsets[:, 2 * number].double() + rows).clamp(-2, height + 1)
            x = (offsets[:, 2 * number + 1].double() + columns).clamp(-2, width + 1)
            own = slice(group * channels // groups, (group + 1) * channels // groups)
            for down in (0, 1):
                for right in (0, 1):
                    at_y, at_x = y.floor() + down, x.floor() + right
                    share = (1 - (y - at_y).abs()) * (1 - (x - at_x).abs()) * mask[:, number].double()
                    at_y, at_x = (at_y + 2).long().clamp(0, height + 3), (at_x + 2).long().clamp(0, width + 3)
                    image = torch.arange(batch)[:, None, None]
                    read = padded[image, own, at_y, at_x] * share[..., None]  # b h w c
                    kernel = weight[:, own, tap // 3, tap % 3].double()
                    answer += torch.einsum("bhwc,oc->bohw", read, kernel)
                    sizes = sizes + torch.einsum("bhwc,oc->bohw", read.abs(), kernel.abs())
    return answer, sizes.amax()


@pytest.fixture
def _needs_a_compiler():
    if reason := _compile.why_not("deformable_convolution"):
        pytest.skip(reason)


@given(
    seed=st.integers(0, 2**32 - 1),
    sides=st.tuples(st.integers(1, 11), st.integers(1, 23)),
    groups=st.sampled_from([1, 2, 4]),
    members=st.sampled_from([1, 3, 8, 16, 21]),
    outs=st.sampled_from([1, 3, 16, 33]),
    spread=st.sampled_from([0.0, 0.7, 5.0, 1e6]),
    together=st.booleans(),
)
@pytest.mark.usefixtures("_needs_a_compiler")
def test_the_compiled_one_is_the_definition(seed, sides, groups, members, outs, spread, together):
    height, width = sides
    convolved, moved = _inputs(height, width, groups, spread, members=members, outs=outs, seed=seed)
    layout = torch.channels_last if together else torch.contiguous_format
    feature = convolved[0].contiguous(memory_format=layout)
    found = deformable_convolution(feature, *convolved[1:], **moved, impl="compiled")
    expected, sizes = _definition(*convolved, **moved)
    assert found.shape == expected.shape and found.is_contiguous(memory_format=torch.channels_last)
    assert (found - expected).abs().max() <= ROUNDING * sizes


@given(
    st.integers(1, 7), st.integers(1, 7), st.sampled_from([1, 2, 4]), st.sampled_from([0.0, 0.7, 5.0])
)  # fmt: skip
def test_both_forms_of_pytorch_agree_on_any_grid(height, width, groups, spread):
    convolved, moved = _inputs(height, width, groups, spread, dtype=torch.float64)
    first, second = (deformable_convolution(*convolved, **moved, impl=impl) for impl in ("torchvision", "reference"))
    torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("_needs_a_compiler")
@pytest.mark.parametrize("channels", [64, 128, 320])
def test_many_channels_and_places_are_summed_as_exactly_as_by_torchvision(channels):
    # at 320 channels a block's columns hold one tap, at 64 four of them, and the last is alone
    convolved, moved = _inputs(20, 21, 4, 1.5, members=channels // 4, outs=channels, batch=1)
    exact = deformable_convolution(*(part.double() for part in convolved), **{k: v.double() for k, v in moved.items()})
    ours, theirs = (
        (deformable_convolution(*convolved, **moved, impl=impl) - exact).abs().max() / exact.std()
        for impl in ("compiled", "torchvision")
    )
    assert ours <= 2 * theirs


@pytest.mark.usefixtures("_needs_a_compiler")
def test_threads_share_the_places():
    convolved, moved = _inputs(37, 41, 2, 1.0, members=32, outs=64, batch=1)
    before = torch.get_num_threads()
    answers = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            answers.append(deformable_convolution(*convolved, **moved, impl="compiled"))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*answers)


@pytest.mark.usefixtures("_needs_a_compiler")
def test_parts_of_one_feature_are_read_where_they_lie():
    (feature, weight, bias), moved = _inputs(9, 10, 4, 1.0)
    raw = torch.cat((moved["offsets"], moved["mask"]), 1).contiguous(memory_format=torch.channels_last)
    parts = {"offsets": raw[:, :72], "mask": raw[:, 72:]}
    whole = F.pad(feature, (1, 2, 3, 1)).contiguous(memory_format=torch.channels_last)
    found = deformable_convolution(whole[..., 3:-1, 1:-2], weight, bias, **parts, impl="compiled")
    assert torch.equal(found, deformable_convolution(feature, weight, bias, **moved, impl="compiled"))


@pytest.mark.parametrize("impl", ["compiled", "torchvision", "reference"])
def test_without_offsets_it_is_an_ordinary_convolution(impl):
    (feature, weight, bias), moved = _inputs(6, 5, 2, 0.0)
    moved["mask"] = torch.ones_like(moved["mask"])
    answer = deformable_convolution(feature, weight, bias, **moved, impl=impl)
    torch.testing.assert_close(answer, F.conv2d(feature, weight, bias, padding=1), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("_needs_a_compiler")
def test_what_is_not_finite_stays_where_it_is_read():
    (feature, weight, bias), moved = _inputs(8, 8, 2, 0.0, batch=1)
    feature[0, 1, 0, 4] = torch.nan
    moved["offsets"][0, 0, 7, 0] = torch.nan  # of the first tap, which lies outside there
    moved["offsets"][0, 1, 7, 7] = torch.inf
    found = deformable_convolution(feature, weight, bias, **moved, impl="compiled")
    # unmoved places between 3 and 5 of the upper rows read it, and those of the left whose second neighbour it is
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[:2, 2:6], expected[7, 0] = True, True
    assert torch.equal(found[0].isnan().any(0), expected)
    assert found[0, :, 7, 7].isfinite().all()


def test_gradients_of_both_forms_agree():
    found = []
    for impl in ("torchvision", "reference"):
        convolved, moved = _inputs(5, 6, 2, 0.7, dtype=torch.float64)
        inputs = [value.requires_grad_() for value in (*convolved, *moved.values())]
        deformable_convolution(*convolved, **moved, impl=impl).square().sum().backward()
        found.append([value.grad for value in inputs])
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-8, atol=1e-8)


@pytest.mark.usefixtures("_needs_a_compiler")
def test_auto_leaves_gradients_other_types_and_small_grids_to_pytorch():
    convolved, moved = _inputs(32, 32, 4, 1.0, members=8, outs=32, batch=1)
    with torch.no_grad():
        fast = deformable_convolution(*convolved, **moved)
        assert torch.equal(fast, deformable_convolution(*convolved, **moved, impl="compiled"))
        with use_impl("deformable_convolution=reference"):
            assert not torch.equal(fast, deformable_convolution(*convolved, **moved))
    weight = convolved[1].requires_grad_()
    answer = deformable_convolution(*convolved, **moved)
    (gradient,) = torch.autograd.grad(answer.sum(), weight)
    truth = deformable_convolution(*convolved, **moved, impl="torchvision")
    assert torch.equal(answer, truth)
    assert torch.equal(gradient, torch.autograd.grad(truth.sum(), weight)[0])
    with pytest.raises(ImplUnavailable, match="it gives no gradients"):
        deformable_convolution(*convolved, **moved, impl="compiled")
    weight.requires_grad_(False)
    with pytest.raises(ImplUnavailable, match="it multiplies float32"):
        deformable_convolution(convolved[0], weight.double(), **moved, impl="compiled")
    convolved, moved = _inputs(8, 8, 4, 1.0, members=32, outs=128, batch=1)
    truth = deformable_convolution(*convolved, **moved, impl="torchvision")
    assert torch.equal(deformable_convolution(*convolved, **moved), truth)


def test_without_torchvision_and_a_compiler_the_reference_runs(monkeypatch):
    import codeprior.kernels._choose as choosing

    monkeypatch.setattr(choosing, "find_spec", lambda name: None)
    monkeypatch.setenv("CODEPRIOR_CACHE", "off")
    monkeypatch.setattr(_compile._built, "find", lambda source, flags: None)
    convolved, moved = _inputs(32, 32, 4, 1.0, members=8, outs=32, batch=1)
    expected = deformable_convolution(*convolved, **moved, impl="reference")
    assert torch.equal(deformable_convolution(*convolved, **moved), expected)
    with pytest.raises(ImplUnavailable, match="torchvision is not installed"):
        deformable_convolution(*convolved, **moved, impl="torchvision")


@pytest.mark.usefixtures("_needs_a_compiler")
def test_it_is_a_good_citizen_of_the_compiler():
    convolved, moved = _inputs(5, 7, 2, 1.0)
    opcheck(deformable_convolution_op, (*convolved, *moved.values()))
    opcheck(deformable_convolution_op, (*convolved[:2], None, *moved.values()))


def test_what_does_not_fit_is_refused():
    convolved, moved = _inputs(4, 4, 2, 0.0)
    with pytest.raises(ValueError, match=r"deformable_convolution: expected .* got \(2, 4, 4, 4\)"):
        deformable_convolution(*convolved, offsets=moved["offsets"][:, :18], mask=moved["mask"])
