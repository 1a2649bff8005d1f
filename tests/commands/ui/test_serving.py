"""The page as it is served: where from, to whom, and what a browser may load for it."""

import os
import threading
import time
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from codeprior.__main__ import main
from codeprior.commands._ui.bench import Bench
from codeprior.commands._ui.serving import is_loopback


@pytest.mark.parametrize(("host", "ours"), [
    ("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.8.8.8", True), ("0.0.0.0", False),
    ("192.168.0.4", False), ("example.org", False),
])  # fmt: skip
def test_addresses_of_this_machine_are_known(host, ours):
    assert is_loopback(host) is ours


@pytest.fixture
def client(monkeypatch):
    pytest.importorskip("gradio")
    from fastapi.testclient import TestClient

    from codeprior.commands._ui.page import page
    from codeprior.commands._ui.serving import application

    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("something asked for a host"))
    bench = Bench(finder=lambda photo: [])
    app = application(page(bench), host="127.0.0.1", megabytes=1, uploads=bench.uploads, most=3)
    return TestClient(app, base_url="http://127.0.0.1:7860")


@pytest.fixture(scope="module")
def served():
    """Gives a client of a page that answers calls, which a test client's does not, and its bench."""
    pytest.importorskip("gradio")
    uvicorn, httpx = pytest.importorskip("uvicorn"), pytest.importorskip("httpx")
    from codeprior.commands._ui.page import page
    from codeprior.commands._ui.serving import application

    bench = Bench(finder=lambda photo: [])
    app = application(page(bench), host="127.0.0.1", megabytes=1, uploads=bench.uploads, most=100)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield client, bench
    server.should_exit = True
    thread.join(60)


def _asked(client, name, *data):
    """Gives what the page answers to a call that a program makes instead of a browser."""
    event = client.post(f"/gradio_api/call/{name}", json={"data": data}).json()["event_id"]
    return client.get(f"/gradio_api/call/{name}/{event}").text


def _sent(path):
    return {"path": str(path), "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}


def _picture(**more):
    content = BytesIO()
    Image.new("RGB", (40, 30), (1, 2, 3)).save(content, "PNG", **more)
    return content.getvalue()


def test_only_what_was_uploaded_is_read(served, tmp_path, monkeypatch):
    client, bench = served
    (tmp_path / "private.png").write_bytes(_picture())
    monkeypatch.chdir(tmp_path)
    (place,) = client.post("/gradio_api/upload", files={"files": ("a.png", _picture())}).json()
    assert "event: complete" in _asked(client, "take", [_sent(place)])
    (Path(place).parent / "link.png").symlink_to(tmp_path / "private.png")
    up = "/.." * len(Path(place).parents)
    for path in (
        tmp_path / "private.png", "private.png", f"{Path(place).parent}{up}{tmp_path}/private.png",
        Path(place).parent / "link.png", "/etc/passwd", f"file://{tmp_path}/private.png",
    ):  # fmt: skip
        for call in (
            ("take", [_sent(path)]), ("restore_all", [_sent(path)], "daefr: small", True, 0.5, 1, False),
            ("restore_all", None, _sent(path), True, 0.5, 1, False), ("look", _sent(path)), ("look", str(path)),
        ):  # fmt: skip
            said = _asked(client, *call)
            assert "event: error" in said and "event: complete" not in said, (path, call)
    assert not list(bench.uploads.rglob("*private*")) and not list(bench.uploads.rglob("passwd"))


def test_no_address_is_asked_for(served):
    client, _ = served
    for address in (
        "http://127.0.0.1:9/a.png",
        "http://169.254.169.254/a.png",
        "http://[::1]:9/a.png",
        "ftp://a/a.png",
    ):
        for file in (_sent(address), {**_sent("a.png"), "url": address}):
            assert "event: error" in _asked(client, "take", [file]), address
    assert client.get("/gradio_api/proxy=http://127.0.0.1:9/a.png").status_code == 400


@pytest.mark.parametrize("name", [
    "../../a.png", "/etc/a.png", "a\\..\\b.png", "a/b.png", "a\nb.png", "a\x1b[31m.png", "a\0b.png", "CON.png",
    "=1+1.png",    "<script>.png", "..png", "é.png", "a" * 3000 + ".png", ".codeprior-part-0.png",
])  # fmt: skip
def test_names_of_uploads_stay_names(served, name):
    client, bench = served
    (place,) = client.post("/gradio_api/upload", files={"files": (name, _picture())}).json()
    assert Path(place).resolve().is_relative_to(bench.uploads.resolve()) and Path(place).parent.parent == bench.uploads
    said = _asked(client, "restore_all", [_sent(place)], "daefr: small", True, 0.5, 1, False)
    assert "no face was found" in said and "\x1b" not in said and "<script>" not in said


@pytest.mark.parametrize(("name", "content"), [
    ("a.html", b"<script>alert(1)</script>"), ("a.js", b"1"), ("a.png", b"<html><script>alert(1)</script>"),
    ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"),
])  # fmt: skip
def test_what_is_no_picture_is_not_shown_and_is_no_page(served, name, content):
    client, _ = served
    (place,) = client.post("/gradio_api/upload", files={"files": (name, content)}).json()
    given = client.get(f"/gradio_api/file={place}")
    assert given.headers["x-content-type-options"] == "nosniff"
    kind, how = given.headers["content-type"], given.headers.get("content-disposition", "")
    assert kind.startswith("image/png") or how.startswith("attachment")
    assert "event: error" in _asked(client, "take", [_sent(place)])


def test_a_bomb_is_refused_with_its_size(served):
    client, _ = served
    bomb = BytesIO()
    Image.new("1", (9_000, 8_000)).save(bomb, "PNG")
    (place,) = client.post("/gradio_api/upload", files={"files": ("bomb.png", bomb.getvalue())}).json()
    assert "event: error" in (said := _asked(client, "take", [_sent(place)])) and "bomb.png" in said


def test_uploads_are_bounded_and_private(client):
    answers = [client.post("/gradio_api/upload", files={"files": (f"{k}.png", os.urandom(900_000))}) for k in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 413, 413]
    assert "Too much has been uploaded" in answers[-1].text

    def pieces():
        yield b"--x"

    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/gradio_api/upload", content=pieces(), headers=kind).status_code == 413, "a size is said first"
    (place,) = answers[0].json()
    private = next(parent for parent in Path(place).parents if parent.name.startswith("codeprior-ui-"))
    assert private.stat().st_mode & 0o077 == 0, "nobody else of this machine looks into it"


def test_the_page_loads_nothing_from_elsewhere(client):
    answer = client.get("/")
    assert answer.status_code == 200 and "codeprior" in answer.text
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "fonts.googleapis.com" not in answer.text and "cdnjs" not in answer.text


def test_a_name_that_is_not_this_machine_is_refused(client):
    assert client.get("/", headers={"host": "elsewhere.example"}).status_code == 400


def test_a_page_of_another_site_uploads_nothing(client):
    own, name = "http://127.0.0.1:7860", "/gradio_api/upload"
    assert client.post(name, files={"files": ("a.png", b"x")}, headers={"origin": own}).status_code == 200
    for origin in (
        "http://elsewhere.example",
        "null",
        "http://127.0.0.1:80",
        "https://127.0.0.1:7860.elsewhere.example",
    ):
        answer = client.post(name, files={"files": ("a.png", b"x")}, headers={"origin": origin})
        assert answer.status_code == 403 and "from other sites" in answer.text


def test_files_of_the_server_are_not_given_out(client):
    for place in ("/etc/passwd", "../../../etc/passwd", __file__):
        assert client.get(f"/gradio_api/file={place}").status_code in (403, 404)
    assert client.post("/gradio_api/upload", files={"files": ("a.png", bytes(2**20 + 1))}).status_code == 413


def test_a_call_that_makes_no_sense_ends_with_its_reason(capsys):
    pytest.importorskip("gradio")
    assert main(["ui", "--weights", "nothing.safetensors"]) == 2
    assert "codeprior ui: nothing.safetensors is no weights file" in capsys.readouterr().err


def test_without_gradio_the_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    assert main(["ui"]) == 2
    assert "pip install 'codeprior[ui]'" in capsys.readouterr().err
