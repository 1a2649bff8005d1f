"""Downloads against a server of our own that breaks off, lies and starts again: whole and right, or not there."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from codeprior.__main__ import main
from codeprior.checkpoints import fetch, recorded_sum
from codeprior.families import Published

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SUM = hashlib.sha256(CONTENT).hexdigest()


class _Server(ThreadingHTTPServer):
    """Serves `CONTENT`; `mode` says how, `asked` keeps the Range of every request."""

    daemon_threads = True
    mode = "whole"

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str | None] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/folder/weights.pth?token=1"


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.server.mode == "absent":
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.mode != "no ranges" else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[start:] if self.server.mode != "other" else bytes(len(CONTENT))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.server.mode == "breaks" else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()


def test_a_file_comes_once_and_is_then_only_checked(tmp_path, server):
    told = []
    path = fetch(server.address, tmp_path, sha256=SUM.upper(), progress=lambda *numbers: told.append(numbers))
    assert path == tmp_path / "weights.pth"
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert fetch(server.address, tmp_path, sha256=SUM) == path
    assert fetch(server.address, tmp_path, sha256=SUM, offline=True) == path
    assert len(server.asked) == 1
    assert [item.name for item in tmp_path.iterdir()] == ["weights.pth"]


@pytest.mark.parametrize("then", ["whole", "no ranges"])
def test_an_interrupted_download_goes_on(tmp_path, server, then):
    server.mode = "breaks"
    with pytest.raises(ConnectionError, match=r"broke off .*; what came is kept, call again"):
        fetch(server.address, tmp_path, sha256=SUM)
    (partial,) = tmp_path.iterdir()
    assert partial.name.startswith(".weights.pth.")
    assert partial.read_bytes() == CONTENT[: partial.stat().st_size]
    half = partial.stat().st_size
    assert half > 0
    server.mode = then
    assert fetch(server.address, tmp_path, sha256=SUM).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={half}-"]
    assert [item.name for item in tmp_path.iterdir()] == ["weights.pth"]


def test_twenty_interruptions_end_in_the_right_file(tmp_path, server):
    server.mode = "breaks"
    for _ in range(20):
        with pytest.raises(ConnectionError):
            fetch(server.address, tmp_path, sha256=SUM)
    server.mode = "whole"
    assert fetch(server.address, tmp_path, sha256=SUM).read_bytes() == CONTENT


def test_a_wholly_received_partial_file_is_taken(tmp_path, server):
    (tmp_path / f".weights.pth.{SUM[:16]}.part").write_bytes(CONTENT)
    assert fetch(server.address, tmp_path, sha256=SUM).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_file_that_comes_during_the_download_is_kept(tmp_path, server):
    def other(*_):
        (tmp_path / "weights.pth").write_bytes(b"mine")

    with pytest.raises(ValueError, match="expected .*; remove it to fetch it again"):
        fetch(server.address, tmp_path, sha256=SUM, progress=other)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("weights.pth", b"mine")]


def test_another_content_is_removed_and_an_own_file_kept(tmp_path, server):
    server.mode = "other"
    with pytest.raises(ValueError, match=r"gave a file with SHA-256 .*; it was removed"):
        fetch(server.address, tmp_path, sha256=SUM)
    assert not list(tmp_path.iterdir())
    (tmp_path / "weights.pth").write_bytes(b"mine")
    with pytest.raises(ValueError, match="remove it to fetch it again"):
        fetch(server.address, tmp_path, sha256=SUM)
    assert (tmp_path / "weights.pth").read_bytes() == b"mine"


def test_refusals_say_why_and_write_nothing(tmp_path, server):
    server.mode = "absent"
    with pytest.raises(ConnectionError, match="answered 404"):
        fetch(server.address, tmp_path, sha256=SUM)
    with pytest.raises(ConnectionError, match="offline is set"):
        fetch(server.address, tmp_path, sha256=SUM, offline=True)
    with pytest.raises(ValueError, match="is not a folder; make it first"):
        fetch(server.address, tmp_path / "no", sha256=SUM)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        fetch(server.address, tmp_path, sha256="abc")
    for address in ("http://example.org/a.pth", "ftp://example.org/a", "https://example.org/", "file:///etc/passwd"):
        with pytest.raises(ValueError, match="expected an address https"):
            fetch(address, tmp_path, sha256=SUM)
    with pytest.raises(ConnectionError, match="broke off"):
        fetch("http://127.0.0.1:9/a.pth", tmp_path, sha256=SUM)
    assert not list(tmp_path.iterdir())


def test_the_command_fetches_what_is_asked_for_and_nothing_else(tmp_path, server, capsys):
    assert main(["download", server.address, "--to", str(tmp_path), "--sha256", SUM]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "weights.pth")
    assert main(["download", server.address, "--to", str(tmp_path)]) == 2
    assert "needs --sha256" in capsys.readouterr().err
    assert main(["download", "retinaface", "--to", str(tmp_path), "--offline"]) == 2
    assert "offline is set" in capsys.readouterr().err
    assert main(["download", "nothing", "--to", str(tmp_path)]) == 2
    assert "nothing is named 'nothing'" in capsys.readouterr().err
    assert main(["download", "yunet", "--to", str(tmp_path), "--sha256", SUM, "--offline"]) == 2
    assert [item.name for item in tmp_path.iterdir()] == ["weights.pth"]


def test_without_a_checksum_the_sum_that_came_is_recorded_and_later_calls_check_it(tmp_path, server):
    server.mode = "breaks"
    with pytest.raises(ConnectionError, match="broke off"):
        fetch(server.address, tmp_path, sha256=None)
    server.mode = "whole"
    target = fetch(server.address, tmp_path, sha256=None)
    # begun anew: nothing would show that the parts belong together
    assert server.asked == [None, None]
    assert target.read_bytes() == CONTENT
    assert (tmp_path / "weights.pth.sha256").read_text() == f"{SUM}  weights.pth\n"
    assert recorded_sum(target) == SUM
    assert fetch(server.address, tmp_path, sha256=None, offline=True) == target
    target.write_bytes(b"other")
    with pytest.raises(ValueError, match=rf"has SHA-256 .*, expected {SUM}; remove it"):
        fetch(server.address, tmp_path, sha256=None)
    (tmp_path / "weights.pth.sha256").write_text("no sum")
    with pytest.raises(ValueError, match="weights.pth.sha256 holds no SHA-256; it is kept"):
        fetch(server.address, tmp_path, sha256=None)
    (tmp_path / "weights.pth.sha256").unlink()
    assert recorded_sum(target) == ""
    assert fetch(server.address, tmp_path, sha256=None) == target
    assert recorded_sum(target) == hashlib.sha256(b"other").hexdigest()
    assert len(server.asked) == 2


def test_the_command_says_the_licence_and_that_it_could_not_verify(tmp_path, server, capsys, monkeypatch):
    listed = Published("unknown-sum", server.address, "", "Apache-2.0", text="a restorer")
    monkeypatch.setattr("codeprior.commands.download.published_weights", lambda: [listed])
    assert main(["download", "unknown-sum", "--to", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / "weights.pth")
    assert "unknown-sum: a restorer; Apache-2.0" in said.err
    assert f"could not be verified. It has SHA-256 {SUM}, recorded in weights.pth.sha256" in said.err
    # who knows the sum may say so, and nothing is then left open
    assert main(["download", "unknown-sum", "--to", str(tmp_path), "--sha256", SUM]) == 0
    assert "verified" not in capsys.readouterr().err
    assert main(["download", "unknown-sum", "--to", str(tmp_path), "--sha256", "0" * 64]) == 2


def test_families_say_which_published_weights_have_no_checksum(capsys):
    assert main(["families"]) == 0
    said = capsys.readouterr().out
    for name in ("vqfr-v2", "restoreformer", "restoreformer-plus"):
        _, _, rest = said.partition(f"download {name}: ")
        lines = rest.splitlines()
        assert "Apache-2.0" in lines[0] and lines[1].strip().startswith("https://github.com/")
        assert lines[2].strip() == "SHA-256 not given by its publisher; a download cannot be verified"


class _Raw(ThreadingHTTPServer):
    """Answers with bytes of the test's own, below what HTTP allows."""

    daemon_threads = True

    def __init__(self, reply: bytes):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.reply = reply


class _Answer(BaseHTTPRequestHandler):
    server: _Raw

    def handle(self):
        self.rfile.readline()
        self.wfile.write(self.server.reply)

    def log_message(self, *_):
        pass


_OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        b"", b"\0" * 100, b"SSH-2.0-server\r\n", b"HTTP/9.9 abc\r\n\r\n", b"HTTP/1.1 999999 x\r\n\r\n",
        b"HTTP/1.1 200" + b"x" * 70_000,
        _OK + b"Header\r\n" * 200 + b"\r\n", _OK + b"X: y\r\n" * 200 + b"\r\n", _OK + b"Content-Length: -5\r\n\r\nabc",
        _OK + b"Content-Length: 9" + b"9" * 5000 + b"\r\n\r\nabc", _OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        _OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nabc", _OK + b"Content-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 7-9/10\r\n\r\nabc",
        b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/a.pth\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: ftp://192.0.2.1/a.pth\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n",
        b"HTTP/1.1 302 Found\r\n\r\n", b"HTTP/1.1 416 No\r\n\r\n",
    ],
)  # fmt: skip
def test_replies_that_are_no_http_are_one_kind_of_error(reply, tmp_path):
    with _Raw(reply) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/weights.pth"
        with pytest.raises((ConnectionError, ValueError), match="fetch: "):
            fetch(address, tmp_path, sha256=SUM, timeout=5)
        server.shutdown()
    assert not (tmp_path / "weights.pth").exists()


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "folder"])
def test_a_partial_file_that_is_not_ours_is_not_written_through(kind, tmp_path, server):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.write_bytes(b"mine")
    folder.mkdir()
    partial = folder / f".weights.pth.{SUM[:16]}.part"
    if kind == "folder":
        partial.mkdir()
    elif kind == "hard link":
        partial.hardlink_to(outside)
    else:
        partial.symlink_to(outside if kind == "link" else tmp_path / "nowhere")
    with pytest.raises(ValueError, match="not written through"):
        fetch(server.address, folder, sha256=SUM)
    assert outside.read_bytes() == b"mine" and not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["CON", "a:b.pth", "nul.txt", "dots..", "a%3Ab\\c"])
def test_names_that_some_system_reserves_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match="expected an address https"):
        fetch(f"https://example.org/{name}", tmp_path, sha256=SUM)
