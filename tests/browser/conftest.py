"""A page that is really served, and a browser that really opens it."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Gives the address of a page that `codeprior ui` serves, with the embedded weights."""
    pytest.importorskip("gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("ui") / "log"
    words = [sys.executable, "-m", "codeprior", "ui", "--port", str(port), "--megabytes", "2"]
    with log.open("w") as file:
        server = subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        for _ in range(1200):
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture(scope="module")
def browser():
    """Gives a headless Chromium: the one of CODEPRIOR_BROWSER, or of the system."""
    playwright = pytest.importorskip("playwright.sync_api")
    found = os.environ.get("CODEPRIOR_BROWSER") or shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium here; name one in CODEPRIOR_BROWSER")
    with playwright.sync_playwright() as playing:
        browser = playing.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class Asked:
    """A page, and the addresses that it asked for."""

    def __init__(self, browser, address: str, **size: int):
        self.page = browser.new_page(viewport=size or {"width": 1280, "height": 1100})
        self.page.set_default_timeout(90_000)
        self.hosts: list[str] = []
        self.page.on("request", lambda request: self.hosts.append(request.url))
        self.page.goto(address)
        self.page.wait_for_selector("#restore")

    def give(self, *paths: Path) -> None:
        """Uploads files."""
        self.page.set_input_files("#files input[type=file]", [str(path) for path in paths])


@pytest.fixture
def open_page(browser, address):
    """Gives a function that opens the page once more, as another user would."""
    opened = []

    def opening(**size: int) -> Asked:
        opened.append(Asked(browser, address, **size))
        return opened[-1]

    yield opening
    for asked in opened:
        asked.page.close()
