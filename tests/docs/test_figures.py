import json
from pathlib import Path

from benchmarks._plots import compared, overview
from benchmarks.page import page, pictured, source_of

_ROW = {"op": "search", "n": 9, "impl": "codeprior", "ms": 1.5, "over_floor": 0.5, "wrong": 0, "torch": "2", "load": 1}


def test_the_page_of_figures_is_made_from_the_rows_that_are_kept():
    assert Path("docs/benchmarks.md").read_text(encoding="utf-8") == page(), "run: make figures"


def test_every_picture_is_made_from_the_rows_that_are_kept():
    assert {file.stem for file in pictured()} >= {"code_stats", "contrastive", "degradations", "nearest_code"}
    for file in pictured():
        picture = Path("docs/images/benchmarks") / f"{file.parent.name}-{file.stem}.svg"
        assert source_of(file) in picture.read_text(encoding="utf-8"), "run: make figures"
        assert f"images/benchmarks/{picture.name}" in page()


def test_a_picture_shows_the_time_of_others_over_ours(tmp_path):
    others = [{**_ROW, "impl": "plain", "ms": 6.0, "floor": "mm"}, {**_ROW, "impl": "mm", "ms": 0.75, "floor": "mm"}]
    assert compared([_ROW, *others]) == [("search, n 9", 1.5, others)]
    assert not compared([_ROW]) and not compared(others)
    overview([_ROW, *others], tmp_path / "a.svg", source="rows of a test")
    drawn = (tmp_path / "a.svg").read_text(encoding="utf-8")
    overview([_ROW, *others], tmp_path / "b" / "a.svg", source="rows of a test")
    assert (tmp_path / "b" / "a.svg").read_text(encoding="utf-8") == drawn
    assert "rows of a test" in drawn and "search, n 9" in drawn


def test_a_row_says_case_time_and_ratio(tmp_path):
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / "nearest_code.json").write_text(json.dumps([_ROW]))
    made = page(tmp_path)
    assert "## nearest_code, device" in made
    assert "| search | 9 | **codeprior** | 1.5 | 0.50 | 0 |" in made
