"""Figures of speech that newcomers had to ask about stay out of pages, docstrings and help, for plain statements."""

import re

import pytest

from tests.docs.blocks import ROOT

PHRASES = {
    # a fidelity of 0 follows the model, one of 1 follows the picture
    "fidelity": r"\b(prior|model|picture|photograph)'s word\b|\btrusts the (model|prior)\b",
    # rooms exchange tensors
    "rooms": r"\bcross(es)? (every|the) walls?\b|\bthe image walks\b|\bof the walk\b|\bThree doors\b",
    # a backward pass begins at tensors
    "backward": r"\bwalks? back from\b",
}


@pytest.mark.parametrize("about", PHRASES)
def test_statements_are_plain(about):
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    pages += [path for top in ("codeprior", "examples") for path in (ROOT / top).rglob("*.py")]
    spoken = re.compile(PHRASES[about])
    found = {
        str(path.relative_to(ROOT)): match[0]
        for path in pages
        if "house" not in path.parts and (match := spoken.search(" ".join(path.read_text().split())))
    }
    assert not found
