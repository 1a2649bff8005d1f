"""What `repr` writes of an op is read by later versions, whose ops may have more fields."""

import re
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeprior import degradations
from codeprior.degradations import Chain, KernelMix, Op, Round, definition, preset, preset_names

pytestmark = pytest.mark.filterwarnings("ignore:preset")

DAEFR = (
    "Chain(ops=(GaussianBlur(size=(39, 41), sigma=(0.1, 15), isotropic=0.5, "
    "angle=(-3.141592653589793, 3.141592653589793)), Resize(factor=(0.8, 30), interpolation='bilinear', rules='cv2'), "
    "GaussianNoise(sigma=(0, 20), grey=0.0, clip=True), Jpeg(quality=(30, 100), cast='round'), "
    "ResizeBack(divide=1, interpolation='bilinear', rules='cv2'), Round()))"
)
"""Written by the version in which saved sets were compared letter by letter."""


@dataclass(frozen=True, kw_only=True)
class Jpeg(degradations.Jpeg):
    """JPEG as it would be with two fields more."""

    subsampling: str = "4:2:0"
    tables: tuple[int, ...] = field(default_factory=tuple)


def with_jpeg(jpeg: Op) -> Chain:
    """DAEFR's chain with another JPEG."""
    ops = preset("daefr").ops
    return Chain(ops=tuple(jpeg if isinstance(op, degradations.Jpeg) else op for op in ops))


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_described_by_its_own_text_and_by_no_other(name):
    op = preset(name)
    twins = [other for other in preset_names() if definition(preset(other)) == definition(op)]
    assert [other for other in preset_names() if op.is_described_by(definition(preset(other)))] == twins
    spaced = definition(op).replace(", ", ",  ")
    assert op.is_described_by(spaced)


def test_the_text_of_the_version_before_describes_the_preset():
    assert preset("daefr").is_described_by(DAEFR)


def test_a_field_that_was_added_with_its_default_changes_nothing():
    assert definition(with_jpeg(Jpeg(quality=(30, 100)))) != DAEFR
    assert with_jpeg(Jpeg(quality=(30, 100))).is_described_by(DAEFR)


@pytest.mark.parametrize("changes", [{"subsampling": "4:4:4"}, {"tables": (3,)}, {"cast": "floor"}])
def test_an_added_field_with_another_value_and_a_changed_one_are_refused(changes):
    assert not with_jpeg(Jpeg(quality=(30, 100), **changes)).is_described_by(DAEFR)


def test_a_field_that_is_gone_is_refused():
    newer = definition(with_jpeg(Jpeg(quality=(30, 100))))
    assert "subsampling='4:2:0'" in newer
    assert not preset("daefr").is_described_by(newer)


def test_a_changed_default_does_not_pass_for_an_old_value():
    """The text names every field, so that a default which means something else today is seen."""
    assert "cast='round'" in DAEFR
    assert not with_jpeg(degradations.Jpeg(quality=(30, 100), cast="floor")).is_described_by(DAEFR)


def test_parts_inside_parts_are_compared():
    blur = degradations.GaussianBlur(size=(5,))
    mixes = [KernelMix(blurs=(blur, second), weights=(1, 2)) for second in (blur, degradations.Sinc())]
    assert mixes[0].is_described_by(repr(mixes[0]).replace(", isotropic=0.5", ""))
    assert not mixes[0].is_described_by(repr(mixes[1]))
    assert not mixes[0].is_described_by(repr(mixes[0]).replace("weights=(1, 2)", "weights=(1, 2, 3)"))
    assert not mixes[0].is_described_by(repr(mixes[0]).replace("weights=(1, 2)", ""))


@pytest.mark.parametrize("number", re.findall(r"(?<=[(, =])[\d.]+(?=[,)])", DAEFR))
def test_every_number_counts(number):
    changed = re.sub(rf"(?<=[(, =]){re.escape(number)}(?=[,)])", "77", DAEFR, count=1)
    assert changed != DAEFR
    assert not preset("daefr").is_described_by(changed)


@pytest.mark.parametrize(
    "text",
    ["", "Round(", "Round", "Round(1)", "Round(**{})", "degradations.Round()", "Clamp()", "()", "\0", "(" * 9999],
)
def test_what_is_no_description_is_refused(text):
    assert not Round().is_described_by(text)


def test_a_text_is_read_and_never_run():
    assert not Chain(ops=(Round(),)).is_described_by("Chain(ops=(__import__('os').abort(),))")
    assert not degradations.Maybe(op=Round(), chance=0.5).is_described_by("Maybe(op=Round(), chance=exit())")


@given(text=st.text(max_size=30))
def test_any_text_gives_an_answer(text):
    assert Round().is_described_by(text) in (True, False)
