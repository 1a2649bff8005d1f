"""The page about scale holds what its script gives, and the script counts what others counted."""

import pytest

from benchmarks import scale


@pytest.fixture(scope="module")
def found():
    return scale.parts()


def test_parts_cost_what_was_counted_on_the_reference_modules(found):
    # GFLOP of one forward at 512 × 512, counted independently on the published modules; two images for VGG-16
    truth = {"encoder": 212.4, "decoder": 470.1, "discriminator": 25.7, "perceptual": 2 * 160.4}
    for name, value in truth.items():
        assert found[name].forward * 1e3 == pytest.approx(value, abs=0.06)
    # nine layers; the reference count leaves out the two projections around them
    assert found["code predictor"].forward * 1e3 == pytest.approx(10.9, rel=0.04)


def test_a_backward_pass_costs_twice_the_forward_pass_and_half_of_that_to_the_input_alone(found):
    for name in ("encoder", "decoder", "discriminator"):
        assert found[name].backward == pytest.approx(2 * found[name].forward, rel=0.01)
        assert found[name].to_input == pytest.approx(found[name].forward, rel=0.01)


def test_hours_are_work_over_rate():
    # 3,600 TFLOP on one GPU at 1 TFLOP/s: an hour, and a tenth for everything else
    assert scale.hours(3600, 1, gpus=1) == pytest.approx(1.1)


def test_the_page_holds_what_the_script_gives(found):
    held = scale.PAGE.read_text().split(scale.BEGIN)[1].split(scale.END)[0]
    assert held == scale.tables(found), "run python -m benchmarks.scale --write"
