"""Python blocks of the README and of every page run, each page from top to bottom in one namespace."""

import runpy
from pathlib import Path

import pytest
import torch

from tests.docs.blocks import ROOT, blocks

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
ELSEWHERE = ("class OldPhotoRestorer", "class CodeFormer(")
"""Run by test_north_star.py, which gives them a teacher and photographs."""


def _runnable(path: Path) -> list:
    # the pages of notebooks are written from sources that test_notebooks.py runs
    if path.parent.name == "notebooks":
        return []
    found = [block for block in blocks(path.read_text()) if not block.reason]
    return [block for block in found if not any(name in block.code for name in ELSEWHERE)]


@pytest.mark.parametrize("path", [p for p in PAGES if _runnable(p)], ids=lambda path: str(path.relative_to(ROOT)))
def test_blocks_of_a_page_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in _runnable(path):
        code = compile("\n" * (block.line - 1) + block.code, str(path.relative_to(ROOT)), "exec")
        exec(code, namespace)
    torch.set_grad_enabled(True)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_block_that_is_not_run_says_why(path):
    assert all(len(block.reason.split()) > 2 for block in blocks(path.read_text()) if block.reason)


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "guides").glob("*.py")), ids=lambda path: path.name)
def test_scripts_that_draw_a_guides_pictures_find_what_they_import(path):
    assert callable(runpy.run_path(str(path))["main"])
