"""What a hub may answer: one that names files elsewhere, breaks off or is not there has no effect but one error."""

import functools
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from codeprior.checkpoints.repository import fetch_repository, is_repository

FILES = {"model.safetensors": b"tensors", "config.json": b"{}"}
COMMIT = "a" * 40


class Hub:
    """A server on this machine that answers as the hub does, but for what a test changes.

    Attributes:
        commit, listing: What it says that the repository is at, and has.
        headers: Sent with every file.
        reply: Bytes in place of what it says of the repository.
        status: Of what it says of the repository.
    """

    def __init__(self):
        self.commit, self.listing, self.headers, self.reply, self.status = COMMIT, None, {}, None, 200
        self.status_headers = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                status, headers, body = hub.answer(self.path.split("?")[0])
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Gives status, headers and bytes for a path."""
        if path.startswith("/api/"):
            about = {"id": "own/er", "sha": self.commit, "siblings": [{"rfilename": name} for name in FILES]}
            files = [{"type": "file", "path": name, "size": 1, "oid": "b" * 40} for name in FILES]
            body = json.dumps((self.listing or files) if "/tree/" in path else about).encode()
            body = body if self.reply is None else self.reply
            headers = {"content-length": str(len(body)), "content-type": "application/json", **self.status_headers}
            return self.status, headers, body
        body = FILES[path.rsplit("/", 1)[1]]
        usual = {"content-length": str(len(body)), "x-repo-commit": self.commit}
        return 200, {**usual, "etag": f'"{hashlib.sha1(body).hexdigest()}"', **self.headers}, body


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The server, and the hub's package that asks it and keeps files deep below `tmp_path`."""
    package = pytest.importorskip("huggingface_hub")
    server, cache = Hub(), tmp_path / "a" / "b" / "cache"
    cache.mkdir(parents=True)
    address = "http://{}:{}".format(*server.server.server_address)
    fetch = functools.partial(package.snapshot_download, endpoint=address, cache_dir=cache)
    monkeypatch.setattr(package, "snapshot_download", fetch)
    yield server
    server.server.shutdown()
    server.server.server_close()


def _fetch(name="own/er", **more):
    return fetch_repository(name, list(FILES), who="test", **more)


def _elsewhere(tmp_path):
    """Gives what was written outside of the cache."""
    return [path for path in tmp_path.rglob("*") if "cache" not in path.parts and path.is_file()]


def test_the_wanted_files_of_a_repository_are_fetched_and_kept(hub, tmp_path):
    folder = _fetch()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    hub.server.shutdown()
    hub.server.server_close()
    assert _fetch(revision=COMMIT) == _fetch() == folder, "what is in the cache needs no network"
    assert not _elsewhere(tmp_path)


@pytest.mark.parametrize("elsewhere", [
    "../../../../elsewhere", "{tmp}/elsewhere", "..", ".hidden", "a/b", "a\\b", "x" * 300, "\x1b[31m",
])  # fmt: skip
@pytest.mark.parametrize("where", ["commit", "etag", "x-linked-etag", "x-repo-commit", "listing"])
def test_no_answer_names_a_file_elsewhere(hub, tmp_path, where, elsewhere):
    elsewhere = elsewhere.format(tmp=tmp_path)
    if where == "commit":
        hub.commit = elsewhere
    elif where == "listing":
        large = {"oid": elsewhere, "size": 7, "pointerSize": 1}
        hub.listing = [{"type": "file", "path": "model.safetensors", "size": 7, "oid": "b" * 40, "lfs": large}]
    else:
        hub.headers = {where: f'"{elsewhere}"' if "etag" in where else elsewhere}
    with pytest.raises(
        ConnectionError, match="what the hub answers for own/er is not believed: (its|an identifier)"
    ) as caught:
        _fetch()
    assert str(caught.value).isprintable()
    assert not _elsewhere(tmp_path)


@pytest.mark.parametrize(("header", "value"), [("x-linked-size", str(2**34 + 1)), ("x-linked-size", "many")])
def test_a_file_without_bound_is_not_fetched(hub, header, value):
    hub.headers = {header: value}
    with pytest.raises(ConnectionError, match=f"is not believed: its {header} is '{value}'"):
        _fetch()


@pytest.mark.parametrize("reply", [b"<html>", b"[]", b"{}", b"", b"[" * 100_000, b'{"id": 7}', b"\xff\xfe"])
def test_an_answer_that_is_none_is_one_error(hub, reply):
    hub.reply = reply
    with pytest.raises(ConnectionError, match="test: the hub could not be used for own/er"):
        _fetch()


@pytest.mark.parametrize(("status", "code", "error", "reason"), [
    (404, "RepoNotFound", FileNotFoundError, "gives no repository own/er to you: it is not there, private"),
    (403, "GatedRepo", FileNotFoundError, "waits for your consent"),
    (404, "RevisionNotFound", FileNotFoundError, "the repository own/er has no revision v1"),
    (500, "", ConnectionError, "own/er is no folder here, not in the hub's cache, and could not be fetched"),
    (401, "", ConnectionError, "the hub does not let you use own/er .*Log in with `hf auth login`"),
])  # fmt: skip
def test_what_the_hub_does_not_have_is_said(hub, status, code, error, reason):
    hub.status, hub.status_headers = status, {"x-error-code": code} if code else {}
    with pytest.raises(error, match=reason) as caught:
        _fetch(revision="v1")
    assert caught.value.__suppress_context__, "a user sees one error, not those of the client as well"


def test_without_a_network_one_error_says_what_to_do(hub):
    hub.server.shutdown()
    hub.server.server_close()
    with pytest.raises(ConnectionError, match=r"could not be fetched \(Local.*Give a folder that") as caught:
        _fetch()
    assert caught.value.__suppress_context__


def test_the_package_is_left_as_it_was(hub):
    from huggingface_hub.utils import _http

    before = _http._GLOBAL_CLIENT_FACTORY
    _fetch()
    assert _http._GLOBAL_CLIENT_FACTORY is before
    assert not _http.get_session().event_hooks["response"]


@pytest.mark.parametrize("name", [
    "a/..", "../b", "a/.", "a/b/c", "/a/b", "~/b", "a//b", "a\\b/c", "-a/b", "a/" + "b" * 300, "a/b..c", "a/b--c",
    "a/b?x=1", "a/b#c", "https://a/b", "a/%2e%2e", "a/b@main", "a/b\x1b[31m", "a/b\n", "a/b\0", "é/b", "a", "",
])  # fmt: skip
def test_odd_names_are_no_repositories(hub, name):
    assert not is_repository(name)
    with pytest.raises(FileNotFoundError, match="test: there is no folder") as caught:
        _fetch(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("revision", ["../../x", "/etc/x", "a/../../x", "a\n", "\x1b[31m", "", "x/", "a" * 300])
def test_odd_revisions_are_refused_before_anything_is_asked(hub, tmp_path, revision):
    with pytest.raises(ValueError, match="test: expected a branch, tag or commit, got '") as caught:
        _fetch(revision=revision)
    assert str(caught.value).isprintable() and not list((tmp_path / "a" / "b" / "cache").iterdir())


@pytest.mark.parametrize("name", ["owner/name", "o/n", "Own-er/na.me_2", "4x/4x"])
def test_usual_names_are_repositories(name):
    assert is_repository(name)
