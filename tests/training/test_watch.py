"""What a run shows: the report holds what the log says, and the loggers get the same figures and pictures."""

import base64
import importlib.util
import json
from html.parser import HTMLParser

import pytest

from codeprior.training import Saving, TensorBoardLogger, TrackioLogger, WandbLogger, train, write_report
from tests.training.toy import Toy, stream, write_faces

RUN = {"steps": 12, "saving": Saving(every=6), "log_every": 3, "preview_every": 4, "progress": False}


class Page(HTMLParser):
    """The pictures, curves and cells of a page; refuses one whose tags do not close."""

    VOID = {"meta", "img", "polyline"}

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.curves, self.rows, self.links = [], [], {}, [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.links += [value for key, value in attrs if key in ("href", "src")]
        if tag == "img":
            self.images.append(base64.b64decode(found["src"].removeprefix("data:image/png;base64,")))
        if tag == "svg":
            self.name = found["aria-label"]
        if tag == "polyline":
            self.curves[self.name] = [tuple(map(float, place.split(","))) for place in found["points"].split()]
        if tag == "tr":
            self.rows.append([])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    train(Toy(), stream(write_faces(folder / "faces")), folder=folder / "run <1>", **RUN)
    return folder / "run <1>"


def test_the_report_holds_what_the_log_says(run):
    page = Page((run / "report.html").read_text())
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    values = [line["l1"] for line in lines]
    assert set(page.curves) == {"l1"}
    low, high = min(values), max(values)
    # steps 3, 6, 9, 12 over 320 pixels; the highest value at the top, 0
    expected = [(320 * n / 3, 120 * (high - value) / (high - low)) for n, value in enumerate(values)]
    assert [pytest.approx(place, abs=0.051) for place in expected] == page.curves["l1"][:4]
    rows = {row[0]: row[1:] for row in page.rows if row}
    assert rows["l1"][0] == f"{values[-1]:.5g}"
    assert (rows["steps"], rows["images"], rows["images a step"]) == (["12"], ["7"], ["4"])
    assert rows["resumed"] == ["0 times"]


def test_the_report_is_one_file(run):
    page = Page((run / "report.html").read_text())
    previews = sorted((run / "previews").glob("*.png"))
    assert page.images == [path.read_bytes() for path in previews]
    assert all(link.startswith("data:") for link in page.links)


def test_a_run_that_was_broken_off_has_a_report_too(tmp_path):
    (tmp_path / "log.jsonl").write_text(
        '{"step": 5, "time": "t", "l1": "nan"}\n{"step": 5, "time": "t", "event": "resumed", "bitwise": false}\n{"st'
    )
    page = Page(write_report(tmp_path).read_text())
    assert page.curves == {"l1": []} and not page.images
    assert "not always to the bit" in "".join(row[-1] for row in page.rows if row)
    with pytest.raises(ValueError, match=r"holds no log.jsonl with lines"):
        write_report(tmp_path / "nowhere")


def test_tensorboard_gets_the_figures_of_the_log(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path / "events")
    train(Toy(), stream(write_faces(tmp_path / "faces")), folder=tmp_path / "run", loggers=[logger], **RUN)
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    found = [(event.step, event.value) for event in events.Scalars("l1")]
    # event files hold float32
    assert found == [(line["step"], pytest.approx(line["l1"], rel=1e-6)) for line in lines]
    assert [event.step for event in events.Images("preview")] == [4, 8, 12]


class Recorded:
    """Stands where the module trackio stands."""

    def __init__(self):
        self.calls = []

    def init(self, **options):
        self.calls.append(("init", options))

    def log(self, values, *, step):
        self.calls.append(("log", step, sorted(values)))

    def finish(self):
        self.calls.append(("finish",))

    def Image(self, path):  # trackio's own name
        return path


def test_trackio_gets_figures_and_pictures(tmp_path, monkeypatch):
    module = Recorded()
    monkeypatch.setitem(__import__("sys").modules, "trackio", module)
    logger = TrackioLogger("faces", name="one", config={"batch": 4})
    train(Toy(), stream(write_faces(tmp_path / "faces")), folder=tmp_path / "run", loggers=[logger], **RUN)
    assert module.calls[0] == (
        "init", {"project": "faces", "name": "one", "config": {"batch": 4}, "resume": "allow"}
    )  # fmt: skip
    steps = [call[1] for call in module.calls if call[0] == "log" and "l1" in call[2]]
    assert steps == [3, 6, 9, 12]
    assert [call[1] for call in module.calls if call[0] == "log" and call[2] == ["preview"]] == [4, 8, 12]
    assert module.calls[-1] == ("finish",)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("trackio") is None, reason="trackio is not installed; it is optional")
def test_trackio_itself_takes_a_run(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    logger = TrackioLogger("faces", name="one")
    train(Toy(), stream(write_faces(tmp_path / "faces")), folder=tmp_path / "run", loggers=[logger], **RUN)
    assert list((tmp_path / "trackio").rglob("*"))


class RecordedWandb(Recorded):
    """As wandb: what is logged goes to the run that `init` gives."""

    def init(self, **words):
        super().init(**words)
        return self


def test_wandb_gets_figures_and_pictures_and_goes_on_with_the_run_of_the_folder(tmp_path, monkeypatch):
    module = RecordedWandb()
    monkeypatch.setitem(__import__("sys").modules, "wandb", module)
    folders = [tmp_path / "run", tmp_path / "run", tmp_path / "other"]
    loggers = [WandbLogger("faces", name="one", folder=folder, config={"batch": 4}) for folder in folders]
    numbers = [call[1]["id"] for call in module.calls]
    assert numbers[0] == numbers[1] != numbers[2]
    assert {key: module.calls[0][1][key] for key in ("project", "name", "config", "resume")} == {
        "project": "faces", "name": "one", "config": {"batch": 4}, "resume": "allow"
    }  # fmt: skip
    train(Toy(), stream(write_faces(tmp_path / "faces")), folder=tmp_path / "run", loggers=loggers[:1], **RUN)
    assert [call[1] for call in module.calls if call[0] == "log" and "l1" in call[2]] == [3, 6, 9, 12]
    assert [call[1] for call in module.calls if call[0] == "log" and call[2] == ["preview"]] == [4, 8, 12]
    assert module.calls[-1] == ("finish",)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed; it is optional")
def test_wandb_itself_takes_a_run_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = WandbLogger("faces", name="one", folder=tmp_path)
    train(Toy(), stream(write_faces(tmp_path / "faces")), folder=tmp_path / "run", loggers=[logger], **RUN)
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
