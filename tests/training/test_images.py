"""Folders, shards and raw pixels give the same images; a bad file is named, and never becomes a sample."""

import json
import os
import tarfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from codeprior.__main__ import main
from codeprior.training import (
    ImageFolder,
    ImageShards,
    Joined,
    PixelFile,
    Stream,
    UnreadableImages,
    check_images,
    index_shards,
    open_images,
    read_index,
    write_index,
    write_pixels,
    write_shards,
)
from codeprior.training.order import slots
from tests.training.toy import write_faces


@pytest.fixture
def faces(tmp_path):
    return write_faces(tmp_path / "faces", count=9)


def images(source):
    return torch.stack([source.image(number) for number in range(len(source))])


def spoil(folder):
    """Adds one file of each kind that must not become a sample; gives their names with a part of the reason."""
    (folder / "empty.png").write_bytes(b"")
    (folder / "page.jpg").write_bytes(b"<html>not found</html>")
    whole = (folder / "03.png").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(whole)
    flipped[-30] ^= 1
    (folder / "flipped.png").write_bytes(flipped)
    Pillow.new("RGB", (8, 6)).save(folder / "wide.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    return {
        "empty.png": "is empty", "page.jpg": "not a supported", "half.png": "", "flipped.png": "",
        "wide.png": "is not square: 8×6", "pipe.png": "not a regular file", "gone.png": "does not exist",
    }  # fmt: skip


def test_a_check_lists_the_good_and_names_the_bad(faces, capsys):
    bad = spoil(faces)
    (faces / "notes.txt").write_text("not an image, and not meant to be one")
    (faces / "again.png").write_bytes((faces / "01.png").read_bytes())
    assert main(["data", "check", str(faces)]) == 3
    said = capsys.readouterr()
    assert "10 images can be used, 7 refused" in said.out
    assert "note: again.png is a copy of 01.png" in said.out or "note: 01.png is a copy of again.png" in said.out
    for name, reason in bad.items():
        assert any(line.startswith(f"refused: {name}: ") and reason in line for line in said.err.splitlines()), name
    entries = read_index(faces / "index.jsonl")
    assert [entry.name for entry in entries] == sorted(["again.png", *(f"{n:02d}.png" for n in range(9))])
    assert {(entry.width, entry.height) for entry in entries} == {(8, 8)}
    # training reads what is listed, and nothing else
    assert len(ImageFolder(faces, size=8)) == 10


def test_a_file_that_is_no_longer_the_listed_one_is_not_used(faces, capsys):
    assert main(["data", "check", str(faces)]) == 0
    before = ImageFolder(faces, size=8).fingerprint
    Pillow.new("RGB", (8, 8)).save(faces / "02.png")
    with pytest.raises(ValueError, match=r"02.png is not the image that was listed"):
        ImageFolder(faces, size=8)
    assert main(["data", "check", str(faces)]) == 3
    assert "changed: 02.png: is not the file that was listed" in capsys.readouterr().err
    assert main(["data", "check", str(faces), "--update"]) == 0
    assert ImageFolder(faces, size=8).fingerprint != before


def test_a_list_that_was_touched_is_refused(faces):
    write_index(faces / "index.jsonl", check_images(faces).entries)
    text = (faces / "index.jsonl").read_text()
    (faces / "index.jsonl").write_text(text.replace("03.png", "04.png"))
    with pytest.raises(ValueError, match="expected a whole list of format 'codeprior images 1'"):
        ImageFolder(faces, size=8)


def test_a_folder_without_images_is_a_wrong_call(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path)]) == 2
    assert "expected a folder with images, found none" in capsys.readouterr().err


def test_folder_shards_and_pixels_give_the_same_samples(faces, tmp_path):
    assert main(["data", "check", str(faces)]) == 0
    # tar files have 10 kB at least, so one image closes each
    assert main(["data", "shards", str(faces), str(tmp_path / "tar"), "--megabytes", "0.001"]) == 0
    assert main(["data", "pixels", str(tmp_path / "tar"), str(tmp_path / "raw"), "--size", "8"]) == 0
    assert len(list((tmp_path / "tar").glob("shard-*.tar"))) > 1
    truth = torch.stack(
        [torch.from_numpy(np.array(Pillow.open(path))).permute(2, 0, 1) for path in sorted(faces.glob("*.png"))]
    )
    sources = [open_images([place], size=8) for place in (faces, tmp_path / "tar", tmp_path / "raw")]
    assert [type(source) for source in sources] == [ImageFolder, ImageShards, PixelFile]
    for source in sources:
        assert torch.equal(images(source), truth)
    for workers in (0, 2):
        batches = [list(Stream(source, batch=4, workers=workers).between(3, 6)) for source in sources]
        for first, *others in zip(*batches, strict=True):
            assert all(torch.equal(a, b) for other in others for a, b in zip(first[:4], other[:4], strict=True))
            assert all(batch.degraded is None for batch in (first, *others))
    assert main(["data", "check", str(tmp_path / "raw")]) == 0


def test_shards_of_other_programs_are_read(faces, tmp_path):
    with tarfile.open(tmp_path / "made-elsewhere.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(3):
            tar.add(faces / f"{number:02d}.png", arcname=f"{'long' * 30}/{number}.png")
            (tmp_path / "label").write_text(json.dumps({"caption": number}))
            tar.add(tmp_path / "label", arcname=f"{number}.json")
        (tmp_path / "bad").write_bytes((faces / "00.png").read_bytes()[:-40])
        tar.add(tmp_path / "bad", arcname="bad.png")
    refused = index_shards(tmp_path)
    assert list(refused) == ["made-elsewhere.tar: bad.png"]
    source = ImageShards(tmp_path, size=8)
    assert torch.equal(images(source), images(ImageFolder(faces, size=8))[:3])


def test_the_same_images_make_the_same_tar_files(faces, tmp_path):
    write_index(faces / "index.jsonl", check_images(faces).entries)
    first, second = (write_shards(faces, tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    with pytest.raises(FileExistsError, match="exists already and is kept"):
        write_shards(faces, tmp_path / "a")


def test_damage_to_a_shard_or_to_pixels_is_seen(faces, tmp_path):
    write_index(faces / "index.jsonl", check_images(faces).entries)
    (shard,) = write_shards(faces, tmp_path / "tar")
    source = ImageShards(tmp_path / "tar", size=8)
    content = bytearray(shard.read_bytes())
    content[source.members[4].offset + 60] ^= 4
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"04.png is not the image that was listed"):
        ImageShards(tmp_path / "tar", size=8).image(4)
    shard.write_bytes(content[: source.members[-1].offset])
    with pytest.raises(ValueError, match="missing or shorter than its list says"):
        ImageShards(tmp_path / "tar", size=8)
    write_pixels(ImageFolder(faces, size=8), tmp_path / "raw")
    with (tmp_path / "raw" / "pixels.u8").open("r+b") as file:
        file.seek(100)
        file.write(b"\0\1")
    with pytest.raises(ValueError, match="is not as it was written"):
        PixelFile(tmp_path / "raw").verify()
    os.truncate(tmp_path / "raw" / "pixels.u8", 1000)
    with pytest.raises(ValueError, match="expected 1728 bytes"):
        PixelFile(tmp_path / "raw")


def test_several_sources_join_in_order(faces, tmp_path):
    other = write_faces(tmp_path / "other", count=2)
    write_pixels(ImageFolder(other, size=8), tmp_path / "raw")
    joined = open_images([tmp_path / "raw", faces], size=8)
    assert isinstance(joined, Joined)
    assert torch.equal(
        images(joined), torch.cat([images(ImageFolder(faces, size=8)), images(PixelFile(tmp_path / "raw"))])
    )
    with pytest.raises(ValueError, match="holds pixels of 8×8, asked for 16×16"):
        open_images([tmp_path / "raw"], size=16)


class Torn(ImageFolder):
    broken = frozenset({3})

    def image(self, index):
        if index in self.broken:
            raise ValueError(f"number {index} fell off")
        return super().image(index)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:image 3 cannot be read")
def test_an_image_that_fails_later_is_replaced_alike_and_the_others_stay(faces, workers):
    whole = list(Stream(ImageFolder(faces, size=8), batch=4).between(0, 9))
    torn = list(Stream(Torn(faces, size=8), batch=4, workers=workers).between(0, 9))
    for before, after in zip(whole, torn, strict=True):
        expected = torch.where(before.indices == 3, 4, before.indices)
        assert torch.equal(after.indices, expected)
        assert torch.equal(after.keys, before.keys)
        kept = before.indices != 3
        assert torch.equal(after.clean[kept], before.clean[kept])


@pytest.mark.filterwarnings("ignore:image . cannot be read")
def test_too_many_unreadable_images_end_the_run_by_number(faces):
    source = Torn(faces, size=8)
    source.broken = frozenset({3, 7})
    with pytest.raises(UnreadableImages, match=r"2 of 9 images could not be read: numbers \[3, 7\]"):
        list(Stream(source, batch=4).between(0, 9))
    source.broken = frozenset(range(9))
    with pytest.raises(UnreadableImages, match="number 0 fell off"):
        list(Stream(source, batch=4).between(0, 9))


@given(count=st.integers(1, 700), block=st.integers(1, 40), seed=st.integers(0, 2**63), epoch=st.integers(0, 9))
def test_blocks_are_read_in_long_stretches_and_every_sample_comes_once(count, block, seed, epoch):
    chosen = slots(epoch * count, (epoch + 1) * count, count=count, seed=seed, block=block).indices
    assert np.array_equal(np.sort(chosen), np.arange(count))
    for start in range(0, count, 16 * block):
        # sixteen blocks, and the samples that fill none
        assert len(np.unique(chosen[start : start + 16 * block] // block)) <= 17


@pytest.mark.parametrize("whole", [True, False], ids=["every byte", "pieces"])
def test_a_folder_without_a_list_is_known_by_the_bytes_of_its_files(whole, tmp_path, monkeypatch):
    if not whole:
        monkeypatch.setattr("codeprior.training.sources._WHOLE", 0)
    levels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = tmp_path / "a.bmp"
    Pillow.fromarray(levels).save(file)
    first, content = ImageFolder(tmp_path, size=64).contents, file.read_bytes()
    for place in (len(content) // 2, 60, len(content) - 5):
        changed = bytearray(content)
        # of a large folder only pieces are compared: 3 rows of a picture are seen, one value between them is not
        changed[place - (0 if whole else 3) : place + 1 + (0 if whole else 900)] = bytes(1 if whole else 904)
        changed = bytes(changed[: len(content)])
        assert len(changed) == len(content) and changed != content
        file.write_bytes(changed)
        assert ImageFolder(tmp_path, size=64).contents != first, place
    file.write_bytes(content)
    assert ImageFolder(tmp_path, size=64).contents == first


def test_what_a_list_knows_is_not_read_a_second_time(faces, monkeypatch):
    write_index(faces / "index.jsonl", check_images(faces).entries)
    source = ImageFolder(faces, size=8, cached=False)
    monkeypatch.setattr("codeprior.files.opened", lambda path: pytest.fail(f"{path} was opened"))
    assert source.contents == source.contents
