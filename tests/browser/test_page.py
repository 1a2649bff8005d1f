"""The page of `codeprior ui` as people use it, in a real browser. Run by `make test-browser`."""

import os
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[2]
_SHOTS = os.environ.get("CODEPRIOR_SHOTS")


def _shot(asked, name: str) -> None:
    """Keeps a picture of the page for the documentation, where a folder for them is named."""
    if _SHOTS:
        asked.page.wait_for_timeout(1500)
        asked.page.screenshot(path=f"{_SHOTS}/{name}.png", full_page=True)


@pytest.fixture(scope="module")
def portrait(tmp_path_factory) -> Path:
    """A portrait reduced to a quarter and enlarged again: of its face little is left."""
    path = tmp_path_factory.mktemp("photos") / "portrait.jpg"
    whole = Image.open(ROOT / "codeprior" / "commands" / "astronaut.webp").convert("RGB")
    small = whole.resize((128, 128), Image.Resampling.BOX)
    small.resize((512, 512), Image.Resampling.BICUBIC).save(path, quality=60)
    return path


def test_a_photograph_is_restored_and_compared(open_page, portrait, tmp_path):
    asked = open_page()
    asked.give(portrait)
    asked.page.wait_for_selector("#faces img")
    asked.page.wait_for_function("document.querySelector('#said').innerText.includes('1 face found')")
    asked.page.click("#restore")
    asked.page.wait_for_selector("#slider img")
    asked.page.wait_for_function("document.querySelector('#said').innerText.match(/mended|restored/)")
    _shot(asked, "ui")
    # the line between before and after follows the pointer
    handle = asked.page.locator("#slider .inner")
    before = handle.bounding_box()
    asked.page.mouse.move(before["x"] + before["width"] / 2, before["y"] + before["height"] / 2)
    asked.page.mouse.down()
    asked.page.mouse.move(before["x"] - 150, before["y"], steps=5)
    asked.page.mouse.up()
    assert handle.bounding_box()["x"] == pytest.approx(before["x"] - 150, abs=before["width"])
    asked.page.click("#maps button")
    asked.page.wait_for_selector("#uncertainty img")
    asked.page.wait_for_selector("#damage img")
    _shot(asked, "ui-maps")
    with asked.page.expect_download() as download:
        asked.page.click("#download")
    download.value.save_as(tmp_path / "result.jpg")
    assert download.value.suggested_filename.endswith("portrait.jpg")
    assert Image.open(tmp_path / "result.jpg").size == (512, 512)
    # nothing was asked of another host, not even for letters
    assert {urlsplit(url).hostname for url in asked.hosts if url.startswith("http")} == {"127.0.0.1"}


def test_a_click_on_a_face_leaves_it_out(open_page, portrait):
    asked = open_page()
    asked.give(portrait)
    asked.page.wait_for_function("document.querySelector('#said').innerText.includes('1 face found')")
    picture = asked.page.locator("#faces img")
    shown, box = picture.get_attribute("src"), picture.bounding_box()
    picture.click(position={"x": box["width"] * 222 / 512, "y": box["height"] * 110 / 512})
    asked.page.wait_for_function("old => document.querySelector('#faces img').src != old", arg=shown)
    asked.page.click("#restore")
    asked.page.wait_for_selector("text=no face is chosen; click on one")


def test_a_bad_file_is_named_and_the_page_goes_on(open_page, portrait, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 no picture")
    asked = open_page()
    asked.give(tmp_path / "bad.jpg")
    asked.page.wait_for_selector("text=bad.jpg: is not a supported image")
    asked.page.click("#files button[aria-label=Clear]")
    asked.give(portrait)
    asked.page.wait_for_selector("#faces img")


def test_two_users_at_once_get_their_own(open_page, portrait, tmp_path):
    Image.open(portrait).crop((60, 0, 400, 300)).save(tmp_path / "other.jpg")
    first, second = open_page(), open_page(width=390, height=844)
    for asked, path in ((first, portrait), (second, tmp_path / "other.jpg")):
        asked.give(path)
    for asked in (first, second):
        asked.page.wait_for_selector("#faces img")
        asked.page.click("#restore")
    for asked, size in ((first, 512), (second, 340)):
        asked.page.wait_for_selector("#slider img")
        width = asked.page.wait_for_function("(document.querySelector('#slider img') || {}).naturalWidth").json_value()
        assert width == size
    _shot(second, "ui-phone")
    wide = second.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390, "nothing is wider than a phone"


def test_many_come_back_as_an_archive(open_page, portrait, tmp_path):
    (tmp_path / "second.jpg").write_bytes(portrait.read_bytes())
    asked = open_page()
    asked.give(portrait, tmp_path / "second.jpg")
    asked.page.wait_for_selector("#faces img")
    assert asked.page.is_visible("#which")
    asked.page.click("#restore-all")
    asked.page.wait_for_selector("text=second.jpg: restored")
    with asked.page.expect_download() as download:
        asked.page.click("#download")
    download.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert sorted(archive.namelist()) == ["portrait.jpg", "second.jpg"]
