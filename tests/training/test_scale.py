"""The page about scale holds what its script gives, and the script counts what others counted, and what really runs."""

import argparse
import time
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks import scale, training
from codeprior.training import TorchEngine

TINY = {
    "size": 32, "dim": 8, "codes": 16, "channels": 8, "multipliers": (1, 2, 2), "decoder_blocks": 1, "groups": 4,
    "unshuffle": 1, "fusion_groups": 4, "fusion_heads": 2, "width": 16, "layers": 1, "heads": 2, "hidden": 16,
}  # fmt: skip


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


@pytest.fixture(scope="module")
def tiny():
    made = training.chosen(quick=True)
    return {
        name: replace(recipe, network=replace(recipe.network, **TINY), degradation_size=32)
        for name, recipe in made.items()
    }


class Tally(TorchDispatchMode):
    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = kwargs or {}
        out = func(*args, **given)
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **given, out_val=out)
        return out


def test_what_an_image_is_said_to_cost_is_what_an_update_runs(tiny):
    said = scale.tflop_an_image(scale.parts(tiny["hq_codebook"]))
    for recipe, expected in zip(tiny.values(), said.values(), strict=True):
        stage, faces = training.stage_of(recipe, TorchEngine()), training.faces_of(recipe, 2, torch.device("cpu"))
        # which attention runs on the CPU, and whether its products are counted, depends on the version of PyTorch
        with sdpa_kernel(SDPBackend.MATH), Tally() as tally:
            stage.update(faces, 0)
        # the page also counts the first convolution's gradient to the image, which nobody asks for
        assert tally.total / 2e12 == pytest.approx(expected, rel=0.01)


def test_rows_say_how_many_images_and_which_share_of_the_peak(tiny, monkeypatch):
    monkeypatch.setattr(training, "chosen", lambda quick: tiny)
    options = argparse.Namespace(quick=True, stage=None, batch=[2], seconds=0.01, compile=False, json=None)
    rows, left_out = training.rows_of(options)
    assert not left_out and {row["stage"] for row in rows} == set(tiny)
    for row in rows:
        assert row["images_per_second"] == pytest.approx(2e3 / row["ms"], rel=0.01)
        assert row["tflops"] == pytest.approx(row["images_per_second"] * row["tflop_an_image"], rel=0.01)
        assert row["share_of_peak"] == pytest.approx(row["tflops"] / row["peak_tflops"])
        assert 0 < row["share_of_peak"] < 1


def test_a_stage_that_does_not_fit_is_named_and_the_others_are_timed(tiny, monkeypatch):
    def full(recipe, engine):
        if recipe is tiny["hq_codebook"]:
            raise torch.OutOfMemoryError("full")
        return build(recipe, engine)

    build = training.stage_of
    monkeypatch.setattr(training, "stage_of", full)
    monkeypatch.setattr(training, "chosen", lambda quick: {key: tiny[key] for key in ("hq_codebook", "restoration")})
    monkeypatch.setattr(scale, "tflop_an_image", lambda found: {"first": 1.0, "second": 1.0})
    options = argparse.Namespace(quick=True, stage=None, batch=[1], seconds=0.01, compile=False, json=None)
    rows, left_out = training.rows_of(options)
    assert [row["stage"] for row in rows] == ["restoration"]
    assert left_out == ["hq_codebook at batch 1: out of memory"]


def test_the_first_two_calls_are_not_timed():
    calls = []
    times = training.timed(lambda: calls.append(time.sleep(0.3 if len(calls) < 2 else 0)), torch.device("cpu"), 0.0)
    assert len(calls) == len(times) + 2 and max(times) < 0.3
