import json
from pathlib import Path

from benchmarks.page import page

_ROW = {"op": "search", "n": 9, "impl": "codeprior", "ms": 1.5, "over_floor": 0.5, "wrong": 0, "torch": "2", "load": 1}


def test_the_page_of_figures_is_made_from_the_rows_that_are_kept():
    assert Path("docs/benchmarks.md").read_text(encoding="utf-8") == page(), "run: make figures"


def test_a_row_says_case_time_and_ratio(tmp_path):
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / "nearest_code.json").write_text(json.dumps([_ROW]))
    made = page(tmp_path)
    assert "## nearest_code, device" in made
    assert "| search | 9 | **codeprior** | 1.5 | 0.50 | 0 |" in made
