import math

import numpy as np
import pytest
import torch

from codeprior import metrics
from codeprior.evaluation import (
    source_table,
    subset,
    summary_tables,
    verification,
    verification_table,
    worse_share,
    worst_faces,
    worst_picture,
)  # fmt: skip
from codeprior.metrics import Results, psnr_measure
from codeprior.metrics.tables import markdown


def _results(**columns: dict[str, list[float]]) -> Results:
    record = metrics.Provenance(network="made")
    measures = [
        psnr_measure(),
        metrics.Measure(
            name="identity", unit="rad", higher_is_better=False, look=lambda image: image, compare=None, record=record
        ),
    ]
    results = Results(measures=measures)
    for method, values in columns.items():
        names = [f"f{place}" for place in range(len(values["PSNR"]))]
        results.add(names, {method: values})
    return results


def _known() -> Results:
    return _results(
        input={"PSNR": [20.0, 20.0, 20.0, 20.0], "identity": [0.4, 0.4, 0.4, 0.4]},
        mine={"PSNR": [22.0, 22.0, 22.0, 18.0], "identity": [0.3, 0.2, 0.5, 0.6]},
    )


def test_paired_intervals_and_shares_are_those_of_made_data():
    (means, against) = summary_tables({"daefr": _known()})
    assert means.heading[:2] == ["damage", "method"] and means.heading[-1] == "worse by 1 dB ↓"
    # mean of 22, 22, 22, 18 with the standard error 2 / sqrt(4)
    assert means.rows[1] == ["daefr", "mine", "21.00 ± 1.00", "0.400 ± 0.091", "25.0%"]
    assert means.rows[0][-1] == "–"
    difference = [2.0, 2.0, 2.0, -2.0]
    drawn = np.random.default_rng(0).choice(difference, (20000, 4)).mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    told = against.rows[0][2]
    assert told.startswith("+1.00 [") and told.endswith("], 75%")
    found = [float(value) for value in told.split("[")[1].split("]")[0].split(", ")]
    assert found == pytest.approx([low, high], abs=1e-9)  # the mean of four such values takes five values only
    assert against.rows[0][3].endswith("50%")


def test_constant_differences_have_an_interval_without_width():
    made = _results(
        input={"PSNR": [20.0, 25.0, 30.0], "identity": [0.4, 0.5, 0.6]},
        mine={"PSNR": [21.5, 26.5, 31.5], "identity": [0.4, 0.5, 0.6]},
    )
    against = summary_tables({"daefr": made})[1]
    assert against.rows == [["daefr", "mine", "+1.50 [+1.50, +1.50], 100%", "+0.000 [+0.000, +0.000], 50%"]]


def test_worse_counts_losses_beyond_the_margin_and_no_equal_infinities():
    made = _results(
        input={"PSNR": [20.0, 20.0, math.inf, math.inf], "identity": [0, 0, 0, 0]},
        mine={"PSNR": [19.0, 18.9, math.inf, 30.0], "identity": [0, 0, 0, 0]},
    )
    assert worse_share(made, "mine") == 0.5
    assert worse_share(made, "mine", margin=2) == 0.25
    assert worse_share(_results(input={"PSNR": [1.0], "identity": [0]}), "mine") is None


def test_the_teachers_row_stands_once_and_is_compared_with_nothing():
    made = _known()
    made.add([f"f{place}" for place in range(4)], {
        "reconstruction by the teacher": {"PSNR": [30.0] * 4, "identity": [0.1] * 4}
    })  # fmt: skip
    means, against = summary_tables({"clean": made, "daefr": made})
    rows = [row for row in means.rows if row[1] == "reconstruction by the teacher"]
    assert [row[0] for row in rows] == ["none"]
    assert {row[1] for row in against.rows} == {"mine"}


def test_sources_are_named_as_what_they_are():
    made = _known()
    table = source_table({"daefr": made}, {"f0": "a", "f1": "a", "f2": "b", "f3": "b"}, fewest=2)
    assert table is not None and "By source of the pictures" in table.caption
    assert [row[:3] for row in table.rows] == [
        [source, "daefr", method] for source in ("a (2)", "b (2)") for method in ("input", "mine")
    ]
    assert table.rows[3][3].startswith("20.00")
    grouped = source_table({"daefr": made}, {"f0": "a", "f1": "a", "f2": "b", "f3": "c"}, fewest=2)
    assert grouped is not None and [row[0] for row in grouped.rows] == ["a (2)"] * 2 + ["others (2)"] * 2
    assert source_table({"daefr": made}, dict.fromkeys(["f0", "f1"], "")) is None
    assert source_table({"daefr": made}, dict.fromkeys(["f0", "f1"], "a")) is None
    assert list(subset(made, {"f1"}).values["mine"]) == ["f1"]


def test_verification_pairs_a_clean_picture_with_a_restored_one():
    people = {f"{person}{number}": str(person) for person in range(6) for number in range(2)}
    generator = torch.Generator().manual_seed(0)
    place = {str(person): 10 * torch.randn(8, generator=generator) for person in range(6)}
    clean = {name: place[person] for name, person in people.items()}
    same = {name: place[person] + 0.1 for name, person in people.items()}
    lost = {name: torch.randn(8, generator=generator) for name in people}
    found = verification({"good": same, "lost": lost}, clean, people)
    assert found["good"].accuracy == 1 and found["good"].area == 1 and found["good"].pairs == 6
    assert found["lost"].area < 0.95
    table = verification_table({"daefr": found})
    assert table is not None and table.rows[0] == ["daefr", "good", "1.0000 ± 0.0000", "1.0000", "6"]
    alone = {name: name for name in people}
    assert verification({"good": same}, clean, alone) == {}
    assert verification_table({"daefr": {}}) is None


def test_the_worst_faces_are_those_that_gain_least():
    made = _known()
    assert [(one.name, round(one.gain, 6)) for one in worst_faces(made, "mine", count=3)] == [
        ("f3", -0.2), ("f2", -0.1), ("f0", 0.1),
    ]  # fmt: skip
    assert worst_faces(made, "mine", column="PSNR", count=1)[0] == ("f3", -2.0)
    with pytest.raises(ValueError, match="expected a column of PSNR, identity and a method of input, mine, got 'LMD'"):
        worst_faces(made, "mine", column="LMD")


def test_the_picture_shows_input_restored_and_clean_side_by_side():
    made = _known()
    worst = worst_faces(made, "mine", count=3)
    colours = {"input": (1.0, 0, 0), "mine": (0, 1.0, 0), "clean": (0, 0, 1.0)}
    images = {label: torch.tensor(value)[:, None, None].expand(3, 16, 16) for label, value in colours.items()}
    sheet = worst_picture(made, "mine", {one.name: images for one in worst}, worst)
    for place in range(3):
        top, left = place // 2 * sheet.shape[0] // 2 + 50, place % 2 * sheet.shape[1] // 2 + 60
        shown = [tuple(sheet[top, left + 200 * column]) for column in range(3)]
        assert shown == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert (sheet[215:230] < 128).any(), "figures stand under the faces"


def test_tables_are_markdown_with_their_captions():
    text = markdown(summary_tables({"clean": _known(), "daefr": _known()}), ["a remark"])
    assert "| daefr | mine | 21.00 ± 1.00 | 0.400 ± 0.091 | 25.0% |" in text
    assert "4 faces; mean ± standard error." in text
    assert "Against input, face by face: mean difference [95 % bootstrap interval], share of wins." in text
    assert text.endswith("- a remark\n")
