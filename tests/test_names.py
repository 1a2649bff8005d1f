"""Names: what is printed does nothing to a terminal, what is written is taken by every system."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeprior import files


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=30))
def test_a_printed_name_is_printable_and_readable_back_by_eye(text):
    shown = files.printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain 写真 🙂.jpg", "plain 写真 🙂.jpg"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x9b2J", r"\x9b2J"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        (b"caf\xe9.jpg", r"caf\xe9.jpg"),
        (Path(os.fsdecode(b"\xff")), r"\xff"),
        (None, "None"),
    ],
)
def test_names_are_escaped(name, shown):
    assert files.printable(name) == shown


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("photo.jpg", "photo.jpg"), ("CON", "CON_"), ("con.jpg", "con_.jpg"), ("NUL.tar.gz", "NUL_.tar.gz"),
        ("COM1.png", "COM1_.png"), ("LPT9", "LPT9_"), ("COM0.png", "COM0.png"), ("console.png", "console.png"),
        ("a:b.png", "a_b.png"), ('a<b>|?*".png', "a_b_____.png"), ("a\\b", "a_b"), ("dots...", "dots"),
        ("space ", "space"), ("...", "_"), ("", "_"), ("a\x07b", "a_b"), ("AUX .png", "AUX_.png"),
    ],
)  # fmt: skip
def test_names_that_some_system_reserves_are_changed(name, changed):
    assert files.writable_name(name) == changed


@given(st.text(max_size=20))
def test_a_writable_name_stays_as_it_is(name):
    assert files.writable_name(files.writable_name(name)) == files.writable_name(name)
