import pytest
import torch
from torch import nn

from codeprior.evaluation import Asked, asked_method, load_methods, methods, state_checksum, teacher_method
from codeprior.images import resize, to_signed, to_unit
from codeprior.photos.faces import match_colour


class _Model(nn.Module):
    size = 8

    def __init__(self, level: float = 0.5):
        super().__init__()
        self.level = nn.Parameter(torch.tensor(level))

    def restore(self, signed, *, fidelity: float = 0.0):
        return signed * self.level + fidelity


class _Restorer:
    def __init__(self, level: float = 0.5, size: int = 8):
        self.model, self.size, self.batch, self.calls = _Model(level), size, 2, []

    def __call__(self, images, **options):
        self.calls.append((tuple(images.shape), options))
        return images[..., :8, :8]


def test_words_name_methods_recipes_weights_and_options():
    assert asked_method("a=b.safetensors") == Asked("a", "", "b.safetensors", {})
    assert asked_method("a=gpen:b", recipes=("gpen",)) == Asked("a", "gpen", "b", {})
    assert asked_method("a=c:b") == Asked("a", "", "c:b", {})
    found = asked_method("DAEFR, auto=w.safetensors?fidelity=auto&always=true")
    assert found == Asked("DAEFR, auto", "", "w.safetensors", {"fidelity": "auto", "always": True})
    for word in ("x", "=x", "x=", "input=w", "clean=w", "x=?fidelity=1"):
        with pytest.raises(ValueError, match='expected --method "NAME=WEIGHTS"'):
            asked_method(word)
    with pytest.raises(ValueError, match="expected options such as fidelity=auto or fidelity=0.5, got 'fidelity'"):
        asked_method("a=w?fidelity")


def test_a_method_without_auto_is_the_model_alone_and_with_it_the_restorer_on_large_faces():
    restorers = {}

    def load(asked):
        return restorers.setdefault(asked.name, _Restorer())

    words = ["plain=w", "taps=w?fidelity=0.25", "auto=w?fidelity=auto"]
    (plain, taps, auto), size = load_methods([asked_method(word) for word in words], load)
    assert (plain.takes, taps.takes, auto.takes, size) == ("degraded", "degraded", "large", 8)
    faces = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(plain.restore(faces), to_unit(to_signed(faces) * 0.5))
    assert torch.allclose(taps.restore(faces), to_unit(to_signed(faces) * 0.5 + 0.25))
    assert not restorers["plain"].calls
    auto.restore(torch.rand(2, 3, 32, 32))
    assert restorers["auto"].calls == [((2, 3, 32, 32), {"fidelity": "auto"})]
    assert len({plain.stamp, taps.stamp, auto.stamp}) == 3


def test_stamps_follow_the_weights():
    def stamp(level):
        return load_methods([asked_method("a=w")], lambda asked: _Restorer(level)).methods[0].stamp

    assert stamp(0.5) == stamp(0.5) != stamp(0.25)
    assert state_checksum(_Model(0.5)) == state_checksum(_Model(0.5)) != state_checksum(_Model(0.25))


def test_stamps_of_auto_follow_what_the_restorer_decides_by(tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "_LIBRARY", tmp_path)
    (tmp_path / "estimators").mkdir()

    def stamps():
        asked = [asked_method("a=w?fidelity=auto"), asked_method("b=w?fidelity=0.5")]
        return [method.stamp for method in load_methods(asked, lambda one: _Restorer()).methods]

    before = stamps()
    (tmp_path / "estimators" / "damage.safetensors").write_bytes(b"other weights")
    after = stamps()
    assert before[0] != after[0], "an estimator that changed decides otherwise"
    assert before[1] == after[1], "the model alone asks no estimator"


def _enlarged(image, scale):
    return image.repeat_interleave(scale, -1).repeat_interleave(scale, -2)


class _Seeing:
    """A restorer of a size that gives what it is shown, `scale` times as large."""

    def __init__(self, size: int, scale: int = 1):
        self.size, self.shown = size, []
        self.model = _Model()
        self.model.restore = lambda signed: _enlarged(self._seen(signed), scale)

    def __call__(self, images, **options):
        return to_unit(to_signed(resize(self._seen(images), self.size)))

    def _seen(self, images):
        self.shown.append(tuple(images.shape))
        return images


@pytest.mark.parametrize("word", ["a=w", "a=w?fidelity=auto"])
@pytest.mark.parametrize(("own", "scale"), [(8, 1), (16, 1), (32, 1), (8, 2)])
def test_a_size_is_that_of_every_answer_and_each_model_is_shown_its_own(word, own, scale):
    restorer = _Seeing(own, scale)
    (method,), size = load_methods([asked_method(word)], lambda asked: restorer, size=16)
    large = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    restored = method.restore({"large": large, "degraded": resize(large, 16)}[method.takes])
    seen = resize(large, own)
    assert size == 16 and restorer.shown == [(1, 3, 32, 32) if "auto" in word else (1, 3, own, own)]
    if scale == 2 and "auto" not in word:
        seen = _enlarged(seen, scale)
    assert torch.allclose(restored, resize(seen, 16), atol=1e-6)
    assert method.about.get("size") == (None if own == 16 else own)


def test_colours_are_matched_at_the_size_of_the_table():
    loaded, _ = load_methods([asked_method("a=w")], lambda asked: _Restorer(size=8), size=16, colour=True)
    large = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = match_colour(loaded[0].restore(large), resize(large, 16))
    assert loaded[1].takes == "large" and torch.equal(loaded[1].restore(large), expected)
    assert expected.shape[-1] == 16


def test_methods_of_different_sizes_or_one_name_are_refused():
    sizes = {"a": 8, "b": 16}
    with pytest.raises(ValueError, match=r"--size to resize all to it; got models of different sizes, \{'a': 8,"):
        load_methods([asked_method("a=w"), asked_method("b=w")], lambda asked: _Restorer(size=sizes[asked.name]))
    with pytest.raises(ValueError, match="expected different names, got a, a"):
        load_methods([asked_method("a=w"), asked_method("a=w")], lambda asked: _Restorer())


def test_matched_colours_are_a_method_of_their_own():
    loaded, _ = load_methods([asked_method("a=w")], lambda asked: _Restorer(), colour=True)
    assert [method.name for method in loaded] == ["a", "a, colours matched"]
    assert loaded[0].stamp != loaded[1].stamp
    faces = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded[1].restore(faces), match_colour(loaded[0].restore(faces), faces))
    assert not torch.equal(loaded[1].restore(faces), loaded[0].restore(faces))


def test_the_teacher_reconstructs_clean_faces():
    class Teacher(nn.Module):
        def forward(self, signed):
            return type("Given", (), {"image": signed * 0.5})

    method = teacher_method(Teacher(), sha256="abc", batch=2)
    faces = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert method.takes == "clean" and method.about["sha256"] == "abc"
    assert torch.allclose(method.restore(faces), to_unit(to_signed(faces) * 0.5))
