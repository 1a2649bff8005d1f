"""Notebooks run from top to bottom, and their Jupyter and Markdown forms were made from the source that is tested."""

import importlib.util
import json

import pytest

from tests.docs.blocks import ROOT, blocks

pytest.importorskip("matplotlib", reason="the extra `docs` draws the notebooks' pictures")
_SPEC = importlib.util.spec_from_file_location("notebook_build", ROOT / "docs" / "notebooks" / "build.py")
assert _SPEC
assert _SPEC.loader
build = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(build)
SOURCES = build.sources()


@pytest.fixture(autouse=True)
def no_screen(monkeypatch, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build, "IMAGES", tmp_path / "images")


def test_there_are_notebooks():
    assert len(SOURCES) >= 2


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_runs_and_draws(source, tmp_path):
    page = build.as_page(source.stem, build.cells(source.read_text()))
    assert "```text" in page
    assert list((tmp_path / "images").glob(f"{source.stem}-*.png"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_jupyter_opens_the_tested_source(source):
    found = build.cells(source.read_text())
    written = source.with_suffix(".ipynb").read_text()
    assert written == build.as_notebook(found), "run `make notebooks`"
    assert all(not cell["outputs"] for cell in json.loads(written)["cells"] if cell["cell_type"] == "code")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_page_shows_the_tested_source(source):
    found = build.cells(source.read_text())
    page = source.with_suffix(".md").read_text()
    assert [block.code.rstrip() for block in blocks(page)] == [cell.text for cell in found if cell.is_code]
    assert all(cell.text in page for cell in found if not cell.is_code), "run `make notebooks`"


def test_text_and_code_are_told_apart():
    found = build.cells("# %% [markdown]\n# # Title\n#\n# words\n\n# %%\n1 + 1\n")
    assert found == [("# Title\n\nwords", False), ("1 + 1", True)]
    assert build.run("x = 2\nprint('a')\nx + 1", {}) == "a\n3\n"
