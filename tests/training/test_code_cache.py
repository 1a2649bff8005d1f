"""Cached target codes are those of the encoder, and a cache of anything else is refused by name."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from codeprior import distributed
from codeprior.stages import use_cached_codes
from codeprior.training import CodeCache, ImageFolder, Made, Stream, weights_sha256, write_codes
from tests.torture import stages
from tests.training.ranks import on_ranks
from tests.training.toy import write_faces

MADE = Made(encoder="e", codebook="c", images="i", preprocessing="p")


def brightness(levels):
    """An encoder with a truth: the level of the upper left pixel of each quarter, and of each mirrored quarter."""
    return levels[:, 0, ::4, ::4].long()


@pytest.fixture
def faces(tmp_path):
    return ImageFolder(write_faces(tmp_path / "faces"), size=8)


def test_codes_come_back_for_both_ways_round(faces, tmp_path):
    path = write_codes(tmp_path / "codes.safetensors", faces, brightness, made=MADE, size=256, batch=3)
    cache = CodeCache(path, MADE)
    numbers, flipped = torch.tensor([5, 0, 5]), torch.tensor([True, False, False])
    images = torch.stack([faces.image(5).flip(-1), faces.image(0), faces.image(5)])
    assert torch.equal(cache.codes(numbers, flipped), brightness(images))
    assert cache.verify(faces, brightness) == 1.0
    held = load_file(path)["codes"]
    assert held.dtype == torch.uint16 and held.shape == (7, 2, 2, 2)


def test_codes_of_the_largest_table_come_back(faces, tmp_path):
    path = write_codes(tmp_path / "c", faces, lambda levels: brightness(levels) + 2**16 - 256, made=MADE, size=2**16)
    assert int(CodeCache(path, MADE).codes(torch.arange(7), torch.zeros(7)).max()) > 2**15
    with pytest.raises(ValueError, match="at most 65536 codes, got 65537"):
        write_codes(tmp_path / "c", faces, brightness, made=MADE, size=2**16 + 1)


@pytest.mark.parametrize("field", Made._fields)
def test_a_cache_of_something_else_is_refused(faces, tmp_path, field):
    path = write_codes(tmp_path / "codes", faces, brightness, made=MADE, size=256)
    with pytest.raises(ValueError, match=f"was made from another {field}"):
        CodeCache(path, MADE._replace(**{field: "other"}))


def test_a_damaged_or_foreign_file_is_refused(faces, tmp_path):
    path = write_codes(tmp_path / "codes", faces, brightness, made=MADE, size=256)
    content = bytearray(path.read_bytes())
    content[-3] ^= 8
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        CodeCache(path, MADE)
    path.write_bytes(b"no cache")
    with pytest.raises(ValueError, match="is no cache of codes"):
        CodeCache(path, MADE)


def test_an_encoder_that_says_otherwise_is_refused(faces, tmp_path):
    cache = CodeCache(write_codes(tmp_path / "codes", faces, brightness, made=MADE, size=256), MADE)
    with pytest.raises(ValueError, match=r"only \d+ of 28 codes of .* are those that the encoder gives now"):
        cache.verify(faces, lambda levels: brightness(levels + 1))
    # one code of a thousand may turn over
    random = np.random.default_rng(0)
    assert cache.verify(faces, lambda x: brightness(x) + int(random.random() < 0.1), agreement=0.5) < 1


def test_stage_three_trains_alike_with_and_without_its_encoder(tmp_path):
    stream = stages.stream(tmp_path / "faces")
    plain, cached = stages.stage("restoration"), stages.stage("restoration")
    assert use_cached_codes(cached, tmp_path / "codes", stream.source) == 1.0
    for step in range(3):
        expected, found = plain.update(stream.at(step), step), cached.update(stream.at(step), step)
        assert torch.equal(expected["total"], found["total"])
    assert stages.digest(plain) == stages.digest(cached)
    cached.teacher.encoder.register_forward_pre_hook(lambda *_: pytest.fail("the encoder ran"))
    cached.update(stream.at(3), 3)


def test_a_cache_of_another_teacher_is_refused(tmp_path):
    stream = stages.stream(tmp_path / "faces")
    use_cached_codes(stages.stage("restoration"), tmp_path / "codes", stream.source)
    with pytest.raises(ValueError, match="was made from another encoder"):
        use_cached_codes(stages.stage("restoration", teacher=1), tmp_path / "codes", stream.source)
    other = Stream(ImageFolder(write_faces(tmp_path / "other", size=32), size=32), batch=4)
    with pytest.raises(ValueError, match="was made from another images"):
        use_cached_codes(stages.stage("restoration"), tmp_path / "codes", other.source)


def test_a_hash_of_weights_sees_values_shapes_and_names():
    one = torch.nn.Linear(2, 3)
    hashes = {weights_sha256(one)}
    with torch.no_grad():
        one.weight[0, 0] += 1e-6
    hashes |= {weights_sha256(one), weights_sha256(torch.nn.Sequential(one)), weights_sha256(one.half())}
    assert len(hashes) == 4


class _Counted:
    """A source that remembers what was read, and an encoder that remembers how much it saw between two collectives."""

    def __init__(self, source):
        self.source, self.read, self.encoded, self.most = source, [], 0, 0

    def __len__(self):
        return len(self.source)

    def image(self, index):
        self.read.append(index)
        return self.source.image(index)

    def encode(self, levels):
        self.encoded += len(levels)
        self.most = max(self.most, self.encoded)
        return brightness(levels)

    def met(self, flag, **_):
        self.encoded = 0
        return _any_rank(flag)


_any_rank = distributed.any_rank


def _write_share(path, faces):
    counted = _Counted(faces)
    distributed.any_rank = counted.met
    write_codes(path, counted, counted.encode, made=MADE, size=256, batch=2)
    return counted.read, counted.most, CodeCache(path, MADE).verify(faces, brightness)


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_share_the_encoding_and_read_each_image_once(faces, tmp_path, world):
    expected = write_codes(tmp_path / "one", faces, brightness, made=MADE, size=256).read_bytes()
    found = on_ranks(world, _write_share, tmp_path / "many", faces)
    most = -(-len(faces) // world)
    for rank, (read, between, agreed) in enumerate(found):
        mine = list(range(len(faces)))[rank * most : (rank + 1) * most]
        # a rank whose share is empty asks for the shape of the codes
        assert read == (mine or [0])
        # no rank waits in a collective while another encodes more than a batch, both ways round
        assert between <= 4 and agreed == 1
    assert (tmp_path / "many").read_bytes() == expected


def _fails_on_one(path, faces):
    def encode(levels):
        if distributed.rank() == 1:
            raise OSError("no such picture")
        return brightness(levels)

    with pytest.raises((OSError, RuntimeError)) as error:
        write_codes(path, faces, encode, made=MADE, size=256, batch=2)
    return str(error.value)


def test_a_rank_that_fails_ends_the_others_at_once(faces, tmp_path):
    found = on_ranks(2, _fails_on_one, tmp_path / "codes", faces)
    assert found == ["write_codes: another rank failed; its own error says why.", "no such picture"]
    assert not (tmp_path / "codes").exists()


def test_codes_of_several_tables_come_back(faces, tmp_path):
    def encode(levels):
        return torch.stack([brightness(levels), 255 - brightness(levels)], dim=1)

    cache = CodeCache(write_codes(tmp_path / "codes", faces, encode, made=MADE, size=256, batch=3), MADE)
    found = cache.codes(torch.tensor([2, 4]), torch.tensor([False, True]))
    images = torch.stack([faces.image(2), faces.image(4).flip(-1)])
    assert found.shape == (2, 2, 2, 2) and torch.equal(found, encode(images))
    assert cache.verify(faces, encode) == 1.0
