"""The page as it is served: where from, to whom, and what a browser may load for it."""

import pytest

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
    app = application(page(Bench(finder=lambda photo: [])), host="127.0.0.1", megabytes=1)
    return TestClient(app, base_url="http://127.0.0.1:7860")


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
