"""A face is left, mended or restored by what it still holds, with a reason in words."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codeprior.estimators import Damage
from codeprior.photos.decisions import as_shown, check_share, decide


def _damage(**figures: float) -> Damage:
    all_figures = {"blur": 0.0, "reduction": 1.0, "noise": 0.0, "quality": 100.0, "limit": 0.5} | figures
    return Damage(**{name: torch.tensor([value]) for name, value in all_figures.items()})


@pytest.mark.parametrize(
    ("damage", "side", "action", "reason"),
    [
        (_damage(limit=0.3), 512, "left", "sharper than 128 px can show; nothing to mend"),
        (_damage(limit=0.3, quality=20), 512, "left", "sharper than 128 px can show; nothing to mend"),
        (_damage(limit=0.08), 512, "left", "as sharp as 128 px give back; nothing to mend"),
        (
            _damage(limit=0.3, noise=20),
            512,
            "mended",
            "as sharp as 128 px give back, but noisy; its noise is taken out",
        ),
        (_damage(limit=0.04, blur=4), 512, "mended", "kept up to 20 cycles a face; finer detail comes from the model"),
        (
            _damage(limit=0.004),
            512,
            "restored",
            "nothing trustworthy beyond 3 cycles a face; restored as the model says",
        ),
        (None, 20, "restored", "too small to judge (20 of 32 px); restored as the model says"),
    ],
)
def test_what_a_face_holds_decides(damage, side, action, reason):
    decision = decide(damage, side=side, size=128)
    assert (decision.action, decision.reason) == (action, reason)
    assert (decision.crossover is not None) == (action == "mended")
    json.dumps(decision.described())


@pytest.mark.parametrize(("limit", "noise", "action"), [(0.5, 0, "left"), (0.44, 0, "mended"), (0.5, 9, "mended")])
def test_a_small_face_of_sharp_pixels_is_left_where_nothing_finer_can_be_shown(limit, noise, action):
    decision = decide(_damage(limit=limit, noise=noise), side=40, size=128)
    assert decision.action == "mended"  # the model could add to it, where it is shown larger
    shown = as_shown(decision)
    assert shown.action == action and (shown.crossover is None) == (action == "left")
    assert shown.cycles == decision.cycles and shown.damage is decision.damage
    if action == "left":
        assert shown.reason == "as sharp as its 40 pixels can show; nothing to mend"


def test_always_restores_whatever_the_face():
    decision = decide(_damage(), side=512, size=128, always=True, fidelity=0.3)
    assert (decision.action, decision.fidelity, decision.crossover) == ("restored", 0.3, None)
    assert as_shown(decision) is decision


@given(st.floats(3.1, 31.9), st.floats(3.1, 31.9))
def test_a_face_that_holds_more_is_given_more_of_its_own_say(one, other):
    """The crossover rises with what a face holds; the taps' weight is that of their training."""
    low, high = (decide(_damage(limit=cycles / 512), side=512, size=128) for cycles in sorted((one, other)))
    assert low.fidelity == high.fidelity == 1
    assert low.crossover is not None and high.crossover is not None
    assert low.crossover.reach <= high.crossover.reach
    assert decide(_damage(limit=one / 256), side=512, size=256).action == "mended"


def test_fidelity_moves_the_crossover_from_the_model_to_the_face():
    crossovers = [
        decide(_damage(limit=0.03, blur=6), side=512, size=128, fidelity=f).crossover for f in (0, 0.25, 0.5, 1)
    ]
    assert all(crossovers)
    transfers = [crossover.transfer for crossover in crossovers if crossover]
    assert transfers[0] == 0
    assert transfers[1] == pytest.approx(transfers[2] / 3)
    assert transfers[3] == math.inf
    auto = decide(_damage(limit=0.03, blur=6), side=512, size=128).crossover
    assert auto is not None and crossovers[2] == auto._replace(fitted=False)


def test_the_blur_of_an_estimate_halves_where_its_gaussian_does():
    """σ of 6 pixels halves the amplitude at 1/32 cycles a pixel, `exp(−2 π² σ² f²) = ½`; a tenth of caution above."""
    crossover = decide(_damage(limit=0.02, blur=6), side=512, size=128).crossover
    assert crossover is not None
    assert crossover.reduced == math.inf
    frequency = crossover.transfer / 512 / 1.1
    assert math.exp(-2 * math.pi**2 * 36 * frequency**2) == pytest.approx(0.5, abs=1e-3)


@given(st.floats(0.5, 8), st.floats(1.1, 12))
def test_blur_and_reduction_together_halve_no_lower_than_the_limit(blur, reduction):
    """A trustworthy limit above what the estimated blur lets through moves the blur, never the limit."""
    damage = _damage(limit=0.05, blur=blur, reduction=reduction)
    crossover = decide(damage, side=256, size=128).crossover
    assert crossover is not None
    at = 1.1 * 0.05 * 256
    assert (at / crossover.transfer) ** 2 + (at / crossover.reduced) ** 4 <= 1 + 1e-6
    # the proportion between both stays the estimate's
    estimated = (math.sqrt(math.log(2) / 2) / math.pi / blur) / (0.41 / reduction)
    assert crossover.transfer / crossover.reduced == pytest.approx(estimated)


def test_more_is_kept_of_a_blurred_face_than_of_a_reduced_one_and_least_where_it_was_compressed():
    def reach(**damage) -> float:
        crossover = decide(_damage(limit=0.03, **damage), side=512, size=128).crossover
        assert crossover is not None and crossover.fitted
        return crossover.reach / (0.03 * 512)

    assert reach(blur=6.2, quality=95) == pytest.approx(3, rel=0.02)
    assert reach(reduction=8, quality=95) == pytest.approx(2)
    # noise and compression leave less of it, and hardly any of what a reduction has spoilt already
    for others in ({"quality": 80}, {"noise": 5}):
        assert reach(blur=6.2, **others) == pytest.approx(2, rel=0.02), others
        assert reach(reduction=8, **others) == pytest.approx(0.4), others
        # a face that is both lies between
        both = [reach(blur=blur, reduction=8, **others) for blur in (1.0, 3.0, 6.0, 12.0)]
        assert both == sorted(both) and 0.4 < both[1] < both[2] < 2, others
    # a sharp face with noise is not cut off anywhere: its bands are weighed by their share of signal
    noisy = decide(_damage(limit=0.1, noise=20), side=512, size=128).crossover
    assert noisy is not None and (noisy.reach, noisy.noise) == (math.inf, 20)
    # a fidelity that was asked for is taken as it is
    asked = decide(_damage(limit=0.03, blur=6.2), side=512, size=128, fidelity=0.5).crossover
    assert asked is not None and not asked.fitted


@pytest.mark.parametrize("wrong", ["most", -0.1, 1.5, "nan", "2"])
def test_other_fidelities_are_refused(wrong):
    with pytest.raises(ValueError, match="fidelity must be auto or a number from 0 to 1, got"):
        check_share(wrong)
    assert check_share("auto") is None
    assert check_share("0.3") == 0.3
