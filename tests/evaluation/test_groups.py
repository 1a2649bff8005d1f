import pytest
import torch
from PIL import Image

from codeprior.evaluation import Face, index_groups, skin_angles, tone_groups
from codeprior.evaluation.summary import group_table
from codeprior.metrics.provenance import checksum
from codeprior.metrics.results import Results
from codeprior.metrics.tables import markdown

from .test_summary import _known


def _plain(*levels: tuple[int, int, int], side: int = 64) -> torch.Tensor:
    return torch.stack([torch.tensor(level).view(3, 1, 1).expand(3, side, side) / 255 for level in levels])


def test_angles_of_known_colours():
    # L*, a*, b* by scikit-image's rgb2lab: (80.86, 10.36, 18.95), (51.13, 18.36, 26.17), (25.65, 11.39, 10.10)
    angles = skin_angles(_plain((233, 193, 166), (164, 109, 78), (82, 54, 46)))
    assert angles.tolist() == pytest.approx([58.45, 2.47, -67.47], abs=0.05)


def test_grey_skin_has_an_angle():
    assert skin_angles(_plain((200, 200, 200), (40, 40, 40))).tolist() == pytest.approx([90, -90], abs=0.01)


def test_what_is_beside_the_cheeks_does_not_count():
    face = _plain((233, 193, 166), side=128)
    around = face.clone()
    around[:, :, :50], around[:, :, 100:], around[:, :, :, :24], around[:, :, :, 104:] = 0, 0, 0, 0
    assert torch.equal(skin_angles(around), skin_angles(face))


def test_faces_by_tone(tmp_path):
    faces = []
    for name, level in (("a", (82, 54, 46)), ("b", (233, 193, 166)), ("c", (164, 109, 78))):
        Image.new("RGB", (64, 64), level).save(tmp_path / f"{name}.png")
        faces.append(Face(name, f"{name}.png", "", name))
    lost = Face("d", "d.png", "", "d")
    faces = [face._replace(sha256=checksum(tmp_path / face.file)) for face in faces]
    assert list(tone_groups(tmp_path, [*faces, lost]).items()) == [("b", "very light"), ("c", "brown"), ("a", "dark")]


def _index(folder, rows):
    path = folder / "index.csv"
    path.write_text("id,file,age,gender\n" + "".join(f"{row}\n" for row in rows))
    return path, [Face(row.split(",")[0], "", "", "") for row in rows]


def test_words_of_an_index_are_groups_and_many_numbers_are_bands(tmp_path):
    path, faces = _index(tmp_path, [f"f{age},f.png,{age},{'woman' if age % 2 else ''}" for age in range(20, 29)])
    assert index_groups(path, faces[:3], "gender") == {"f20": "not known", "f21": "woman", "f22": "not known"}
    bands = index_groups(path, faces, "age")
    assert [list(bands.values()).count(name) for name in dict.fromkeys(bands.values())] == [3, 3, 3]
    assert bands["f20"].startswith("20 to ") and bands["f28"].endswith(" to 28")
    assert index_groups(path, faces[:2], "age") == {"f20": "20", "f21": "21"}


def test_a_column_that_is_not_there_is_named(tmp_path):
    path, faces = _index(tmp_path, ["f,f.png,20,man"])
    with pytest.raises(ValueError, match="has no column 'skin'; it has id, file, age, gender, and tone is measured"):
        index_groups(path, faces, "skin")
    with pytest.raises(ValueError, match="has no face g"):
        index_groups(path, [Face("g", "", "", "")], "age")


def test_each_group_has_its_rows_and_small_ones_are_together():
    made: Results = _known()
    groups = {"f0": "old", "f1": "old", "f2": "young", "f3": "child"}
    table = group_table({"daefr": made}, groups, what="age", caption="By age.", fewest=2)
    assert table is not None and [row[0] for row in table.rows] == ["old (2)"] * 2 + ["others (2)"] * 2
    assert "| age (faces) | damage |" in markdown([table], [])
    assert group_table({"daefr": made}, dict.fromkeys(groups, "old"), what="age", caption="") is None
