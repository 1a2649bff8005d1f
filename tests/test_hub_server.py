"""What really arrives at the hub, by its own package and over HTTP: a server on this machine that keeps it.

It speaks the few calls that pushing and fetching a repository need: create, preupload, LFS batch, commit, revision,
tree and resolve.
"""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from codeprior.weights import read_metadata

pytest.importorskip("huggingface_hub")

_COMMIT = "0123456789abcdef0123456789abcdef01234567"
_PUSH = """
import torch
import codeprior
from codeprior import hub
from tests.export.models import single
torch.manual_seed(0)
model = single()
print(hub.push_to_hub(model, "me/faces", private=True, licence="CC0", data="drawn faces", figures={"PSNR": 21.5}))
again = codeprior.Restorer.from_pretrained("me/faces").model
image = torch.rand(1, 3, 16, 16)
assert torch.equal(again.restore(image), model.restore(image)) and again.config == model.config
"""


class _Hub(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.objects: dict[str, bytes] = {}  # large files by sha256
        self.files: dict[str, bytes] = {}  # the repository
        self.calls: list[tuple[str, str]] = []
        self.created: dict[str, Any] = {}
        self.summary = ""


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        path, body = self._asked()
        if self.headers.get("authorization") != "Bearer hf_secret":
            self._give({"error": "Invalid username or password."}, status=401)
        elif path == "/api/repos/create":
            self.server.created = json.loads(body)
            self._give({"url": f"{self.server.address}/me/faces", "name": "me/faces", "id": "1"})
        elif path == "/api/validate-yaml":
            self._give({"errors": [], "warnings": []})
        elif path == "/api/models/me/faces/preupload/main":
            self._give({"files": [self._mode(file["path"]) for file in json.loads(body)["files"]]})
        elif path == "/me/faces.git/info/lfs/objects/batch":
            objects = json.loads(body)["objects"]
            self._give({"transfer": "basic", "objects": [self._place(one) for one in objects]})
        elif path == "/api/models/me/faces/commit/main":
            for line in body.splitlines():
                self._commit(json.loads(line))
            self._give(
                {"success": True, "commitOid": _COMMIT, "commitUrl": f"{self.server.address}/me/faces/commit/{_COMMIT}"}
            )
        else:
            self._give({"error": f"unknown: {path}"}, status=404)

    def do_PUT(self) -> None:
        path, body = self._asked()
        assert hashlib.sha256(body).hexdigest() == path.rsplit("/", 1)[1]
        self.server.objects[path.rsplit("/", 1)[1]] = body
        self._give({})

    def do_GET(self) -> None:
        path, _ = self._asked()
        if path == "/api/models/me/faces/revision/main":
            names = [{"rfilename": name} for name in self.server.files]
            self._give({"id": "me/faces", "sha": _COMMIT, "private": True, "tags": [], "siblings": names})
        elif path.startswith(f"/api/models/me/faces/tree/{_COMMIT}"):
            sizes = {name: len(content) for name, content in self.server.files.items()}
            oids = {name: hashlib.sha1(content).hexdigest() for name, content in self.server.files.items()}
            self._give([{"type": "file", "path": name, "size": sizes[name], "oid": oids[name]} for name in sizes])
        elif path.startswith(f"/me/faces/resolve/{_COMMIT}/"):
            content = self.server.files[path.rsplit("/", 1)[1]]
            tag = hashlib.sha256(content).hexdigest()
            self._give(content, headers={"ETag": f'"{tag}"', "X-Repo-Commit": _COMMIT})
        else:
            self._give({"error": f"unknown: {path}"}, status=404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _asked(self) -> tuple[str, bytes]:
        path = self.path.partition("?")[0]
        self.server.calls.append((self.command, path))
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            body = b""
            while length := int(self.rfile.readline(), 16):
                body += self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
            return path, body
        return path, self.rfile.read(int(self.headers.get("content-length", "0")))

    def _give(self, content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _mode(self, name: str) -> dict[str, Any]:
        large = name.endswith(".safetensors")
        return {"path": name, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": None}

    def _place(self, one: dict[str, Any]) -> dict[str, Any]:
        return {**one, "actions": {"upload": {"href": f"{self.server.address}/objects/{one['oid']}", "header": {}}}}

    def _commit(self, line: dict[str, Any]) -> None:
        key, value = line["key"], line["value"]
        if key == "header":
            self.server.summary = value["summary"]
        elif key == "file":
            assert value["encoding"] == "base64"
            self.server.files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            self.server.files[value["path"]] = self.server.objects[value["oid"]]
        else:
            raise ValueError(f"an unknown line of a commit: {key}")


@pytest.fixture
def server() -> Iterator[_Hub]:
    hub = _Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    yield hub
    hub.shutdown()
    thread.join()
    hub.server_close()


def _run(code: str, server: _Hub, folder: Path, token: str) -> subprocess.CompletedProcess:
    # the package reads the address of the hub when it is imported
    given = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    given |= {"HF_ENDPOINT": server.address, "HF_TOKEN": token, "HF_HOME": str(folder), "NO_PROXY": "*"}
    given["HF_HUB_DISABLE_XET"] = "1"  # the packed transfer is a second service; files arrive by LFS without it
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=root, env=given, capture_output=True, text=True, timeout=300)


def test_what_is_pushed_arrives_whole_and_comes_back(server, tmp_path):
    done = _run(_PUSH, server, tmp_path, "hf_secret")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == f"{server.address}/me/faces/commit/{_COMMIT}"
    assert server.created["name"] == "faces" and server.created["organization"] == "me"
    # versions of the package say it differently
    assert server.created.get("private") is True or server.created.get("visibility") == "private"
    assert server.summary == "Weights of codeprior"
    # three files and nothing else, the weights as a large one
    assert sorted(server.files) == ["README.md", "config.json", "model.safetensors"]
    assert list(server.objects.values()) == [server.files["model.safetensors"]]
    card = server.files["README.md"].decode()
    assert card.startswith("---\n") and "license: cc0-1.0" in card and "drawn faces" in card and "21.5" in card
    assert 'codeprior.Restorer.from_pretrained("me/faces")' in card and "OWNER" not in card
    config = json.loads(server.files["config.json"])
    assert (config["licence"], config["family"], config["config"]["class"]) == ("CC0", "daefr", "SingleEncoder")
    (tmp_path / "weights.safetensors").write_bytes(server.files["model.safetensors"])
    assert read_metadata(tmp_path / "weights.safetensors")["licence"] == "CC0"


def test_whoever_is_not_logged_in_is_told_so(server, tmp_path):
    done = _run(_PUSH, server, tmp_path, "hf_wrong")
    assert done.returncode != 0 and not server.files
    last = done.stderr.strip().splitlines()[-1]
    assert "push_to_hub: the hub does not let you use me/faces" in last and "401" in last
    assert "Log in with `hf auth login`" in last and last.isprintable()
