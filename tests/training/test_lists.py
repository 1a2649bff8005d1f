"""Lists, tar files and caches that somebody made up: a reason, bounded memory, and nothing outside the folder."""

import hashlib
import io
import json
import resource
import tarfile

import numpy as np
import pytest
import torch

from codeprior.training import (
    CodeCache,
    ImageShards,
    Made,
    check_images,
    index_shards,
    read_index,
    write_codes,
    write_index,
    write_pixels,
    write_shards,
)
from codeprior.training.index import INDEX
from codeprior.training.shards import SHARDS
from codeprior.training.sources import ImageFolder
from tests.training.toy import write_faces


def _forged(path, lines, form="codeprior images 1"):
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    head = {"format": form, "count": len(lines), "sha256": hashlib.sha256(body).hexdigest()}
    path.write_bytes(json.dumps(head).encode() + b"\n" + body)


GOOD = {"name": "00.png", "bytes": 1, "sha256": "0", "width": 8, "height": 8}


@pytest.mark.parametrize(
    "line",
    [
        [], None, 1, "text", {}, GOOD | {"more": 1}, GOOD | {"bytes": "1"}, GOOD | {"width": None},
        GOOD | {"height": -1}, GOOD | {"name": "../outside.png"}, GOOD | {"name": "/etc/passwd"},
        GOOD | {"name": "a/../../b"}, GOOD | {"name": ""},
        GOOD | {"name": "C:\\outside.png"}, GOOD | {"name": "..\\outside.png"},
        GOOD | {"name": "a//b"},
        GOOD | {"bytes": True},
    ],
)  # fmt: skip
def test_lines_that_describe_no_image_of_the_folder_are_refused(line, tmp_path):
    folder = write_faces(tmp_path / "faces")
    (tmp_path / "outside.png").write_bytes((folder / "00.png").read_bytes())
    _forged(folder / INDEX, [line])
    with pytest.raises(ValueError, match="describes no image below its folder"):
        read_index(folder / INDEX)
    with pytest.raises(ValueError, match="describes no image"):
        write_shards(folder, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.tar"))


@pytest.mark.parametrize("shard", ["../a.tar", "/etc/passwd", "a/b.tar", "", "..", "a\\b.tar", 5])
def test_shards_outside_the_folder_are_refused(shard, tmp_path):
    line = {"shard": shard, "offset": 0, **GOOD}
    _forged(tmp_path / SHARDS, [line], "codeprior shards 1")
    with pytest.raises(ValueError, match="describes no image below its folder"):
        ImageShards(tmp_path, size=8)


def _tar(path, *, size=None, sparse=False, kind=tarfile.REGTYPE, name="a.png", pax=None):
    with path.open("wb") as file:
        header = tarfile.TarInfo(name)
        header.size, header.type = size or 0, kind
        if pax:
            header.pax_headers = pax
        file.write(header.tobuf(tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT))
        file.write(bytes(10_000))


@pytest.mark.parametrize(
    "made",
    [
        {"size": 2**42}, {"size": 2**33}, {"size": 2**42, "kind": tarfile.XHDTYPE},
        {"size": 2**42, "kind": tarfile.GNUTYPE_LONGNAME},
        {"size": 2**42, "kind": tarfile.GNUTYPE_SPARSE}, {"pax": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}},
        {"pax": {"GNU.sparse.size": str(2**33), "GNU.sparse.map": f"0,0,{2**33},0", "GNU.sparse.name": "a.png"}},
        {"pax": {"size": "x" * 20}}, {"pax": {"size": str(2**70)}},
    ],
)  # fmt: skip
def test_tar_files_that_claim_too_much_take_no_memory(made, tmp_path):
    _tar(tmp_path / "a.tar", **made)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="index_shards: "):
        index_shards(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB


def test_a_name_outside_its_tar_is_refused_and_the_others_stay(tmp_path):
    content = (write_faces(tmp_path / "faces") / "00.png").read_bytes()
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("good.png", "../bad.png"):
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    refused = index_shards(tmp_path)
    assert list(refused.values()) == ["has a name outside its tar"]
    assert len(ImageShards(tmp_path, size=8)) == 1


@pytest.mark.parametrize("name", [INDEX, SHARDS])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_files_of_the_user_are_not_taken_for_lists(name, kind, tmp_path):
    folder = write_faces(tmp_path / "faces")
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    if kind == "file":
        (folder / name).write_bytes(b"mine")
    else:
        (folder / name).symlink_to(mine)
    with pytest.raises(FileExistsError, match="it is kept"):
        write_index(folder / name, check_images(folder).entries)
    assert (folder / name).read_bytes() == mine.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["pixels.json", "pixels.u8"])
def test_files_of_the_user_are_not_taken_for_pixels(name, tmp_path):
    source = ImageFolder(write_faces(tmp_path / "faces"), size=8)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="is kept"):
        write_pixels(source, tmp_path / "out")
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [b"mine"]


@pytest.mark.parametrize("place", ["shard-000000.tar", ".part-shard-000000.tar"])
def test_links_in_wait_are_not_followed_by_packing(place, tmp_path):
    folder, outside, out = write_faces(tmp_path / "faces"), tmp_path / "outside", tmp_path / "out"
    outside.write_bytes(b"mine")
    out.mkdir()
    (out / place).symlink_to(outside)
    write_index(folder / INDEX, check_images(folder).entries)
    if place[0] != ".":
        with pytest.raises(FileExistsError, match="is kept"):
            write_shards(folder, out)
    else:
        write_shards(folder, out)
    assert outside.read_bytes() == b"mine"


def test_a_falsified_cache_is_found_since_nobody_knows_which_images_are_asked_for(tmp_path):
    source = ImageFolder(write_faces(tmp_path / "faces", count=200), size=8)

    def encode(images):
        return images.float().mean((1, 2, 3)).long().reshape(-1, 1, 1)

    made = Made("e", "c", source.fingerprint, "p")
    path = write_codes(tmp_path / "codes", source, encode, made=made, size=256)
    cache = CodeCache(path, made)
    assert cache.verify(source, encode) == 1
    from codeprior.training.order import slots

    known = set(slots(0, 64, count=200, seed=0).indices.tolist())
    for index in set(range(200)) - known:
        cache._codes[index] = 255
    assert cache.verify(source, encode, seed=0) == 1  # the sample that was asked before
    with pytest.raises(ValueError, match="are those that the encoder gives now"):
        cache.verify(source, encode)


@pytest.mark.parametrize(
    "facts", [[], None, 1, {}, {"sha256": 1}, {"made": [], "sha256": ""}, {"made": None, "sha256": "x"}]
)
def test_odd_caches_are_refused(facts, tmp_path):
    from safetensors.torch import save

    content = save({"codes": torch.zeros(2, 2, 1, 1, dtype=torch.uint16)}, {"codeprior.codes": json.dumps(facts)})
    (tmp_path / "codes").write_bytes(content)
    with pytest.raises(ValueError, match="CodeCache: "):
        CodeCache(tmp_path / "codes", Made("e", "c", "i", "p"))


@pytest.mark.parametrize(
    "facts", [[], None, {"count": "1", "size": 8, "sha256": ""}, {"count": 1, "size": 8, "sha256": 1}]
)
def test_odd_facts_of_pixels_are_refused(facts, tmp_path):
    from codeprior.training import PixelFile

    (tmp_path / "pixels.json").write_text(json.dumps(facts))
    (tmp_path / "pixels.u8").write_bytes(np.zeros(192, np.uint8).tobytes())
    with pytest.raises(ValueError, match="PixelFile: "):
        PixelFile(tmp_path)
