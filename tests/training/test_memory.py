"""Pictures are held in memory only where they fit, and the log says which it was."""

import pytest
import torch

from codeprior.training import (
    ImageFolder,
    PixelFile,
    hold_where_it_fits,
    memory,
    open_images,
    room_for_pictures,
    write_pixels,
)
from tests.training.toy import write_faces


@pytest.fixture
def folder(tmp_path):
    return write_faces(tmp_path / "faces")


def test_pictures_are_held_while_they_fit_and_not_a_byte_more(folder):
    needed = 7 * 3 * 8 * 8
    small, large = (open_images([folder], size=8) for _ in range(2))
    assert hold_where_it_fits(small, room=needed - 1).startswith("pictures are decoded when they are needed")
    assert hold_where_it_fits(large, room=needed).startswith("pictures are decoded once and held in memory")
    for path in sorted(folder.iterdir()):
        path.unlink()
    assert large.image(3).shape == (3, 8, 8)
    with pytest.raises((OSError, ValueError), match="03.png"):
        small.image(3)


def test_what_was_held_is_what_is_read(folder):
    plain, held = ImageFolder(folder, size=8, cached=False), open_images([folder], size=8)
    hold_where_it_fits(held, room=10**9)
    assert all(torch.equal(plain.image(number), held.image(number)) for number in range(7))


def test_raw_pixels_are_left_where_they_are(folder, tmp_path):
    pixels = PixelFile(write_pixels(ImageFolder(folder, size=8), tmp_path / "pixels"))
    assert hold_where_it_fits(pixels, room=0) == "pictures are read from shards or raw pixels when they are needed"


def test_the_ranks_of_a_machine_share_half_its_memory(monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 128 * 10**9)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert room_for_pictures() == 64 * 10**9
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    # FFHQ at 512 px, 55 GB, no longer fits
    assert room_for_pictures() == 8 * 10**9 < 70_000 * 3 * 512**2


def test_a_container_has_the_memory_that_it_is_given(tmp_path, monkeypatch):
    machine = memory.machine_memory()
    (tmp_path / "memory.max").write_text(f"{machine // 4}\n")
    monkeypatch.setattr(memory, "_LIMITS", (str(tmp_path / "memory.max"), str(tmp_path / "none")))
    assert memory.machine_memory() == machine // 4
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.machine_memory() >= machine
