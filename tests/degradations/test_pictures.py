"""The guide shows every op in a picture, and its table of presets says what the code says."""

import re
from pathlib import Path

import pytest

from codeprior import degradations
from codeprior.degradations import Op, about_preset, preset_names
from codeprior.degradations.chain import part_names

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "degradations.md"
COMBINED = {"Op", "Blur", "Chain", "Maybe", "OneOf", "Shuffle"}
"""What has no picture of its own: the two that others are made of, and what puts ops together."""

OPS = [
    name
    for name in degradations.__all__
    if isinstance(getattr(degradations, name), type) and issubclass(getattr(degradations, name), Op)
]


@pytest.mark.parametrize("name", sorted(set(OPS) - COMBINED))
def test_every_op_has_a_picture(name):
    page = PAGE.read_text(encoding="utf-8")
    assert f"`{name}`" in page
    stem = part_names((object.__new__(getattr(degradations, name)),))[0]
    links = re.findall(rf"\]\((\.\./images/degradations/{stem}(?:_[a-z]+)?\.webp)\)", page)
    assert links, f"draw {stem} in degradations_pictures.py and show it in {PAGE.name}"
    assert all((PAGE.parent / link).stat().st_size > 1000 for link in links)


def test_every_picture_is_shown():
    shown = set(re.findall(r"images/degradations/([\w-]+\.webp)", PAGE.read_text(encoding="utf-8")))
    assert shown == {path.name for path in (PAGE.parent.parent / "images" / "degradations").glob("*.webp")}


def test_the_table_says_which_presets_are_partial_and_what_was_chosen():
    rows = re.findall(r"^\| `(\S+)` \| (exact|partial) \| (.*) \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.M)
    assert [row[0] for row in rows] == list(preset_names())
    for name, status, source, chosen in rows:
        about = about_preset(name)
        assert (status, source, chosen) == (about.status, about.source, about.chosen or "–")
