"""CodeFormer, VQFR and RestoreFormer as models: sizes, fidelity, frozen parts, and what is refused."""

from functools import partial

import pytest
import torch

from codeprior.families import find_family
from codeprior.restorers import Restorer
from tests import small_families as small

ALL = {
    "codeformer": small.codeformer,
    "restoreformer": small.restoreformer,
    "restoreformer plus": lambda: small.restoreformer(plus=True),
    "vqfr1": small.vqfr1,
    "vqfr2": small.vqfr2,
    "vqfr2 nearest": lambda: small.vqfr2(predicted=False),
}
CONTROLLED = {"codeformer": small.codeformer, "vqfr2": small.vqfr2}


def _image(height: int, width: int, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.mark.parametrize("build", ALL.values(), ids=ALL)
@pytest.mark.parametrize("size", [(16, 16), (8, 24), (20, 12)])
def test_any_multiple_of_the_stride_is_restored(build, size):
    model = build()
    assert model.stride == 4
    image = _image(*size)
    answer = model.restore(image)
    assert answer.shape == image.shape and answer.isfinite().all()
    assert not answer.requires_grad


@pytest.mark.parametrize("build", ALL.values(), ids=ALL)
def test_other_sizes_are_refused_in_words(build):
    with pytest.raises(ValueError, match="expected sides that are multiples of 4, got 18×16; resize or pad"):
        build().restore(_image(18, 16))


@pytest.mark.parametrize("build", CONTROLLED.values(), ids=CONTROLLED)
def test_fidelity_is_a_number_or_a_tensor_with_one_for_each_face(build):
    model, faces = build(), _image(16, 16, batch=3)
    wanted = (0.0, 0.5, 1.0)
    each = model.restore(faces, fidelity=torch.tensor(wanted))
    for face, answer, fidelity in zip(faces, each, wanted, strict=True):
        alone = model.restore(face[None], fidelity=fidelity)[0]
        torch.testing.assert_close(answer, alone, rtol=1e-4, atol=1e-4)
    shaped = model.restore(faces, fidelity=torch.tensor(wanted).reshape(3, 1, 1, 1))
    assert torch.equal(shaped, each)
    assert not torch.allclose(each[1], model.restore(faces[1:2], fidelity=0.0)[0])


@pytest.mark.parametrize("build", CONTROLLED.values(), ids=CONTROLLED)
def test_fidelity_out_of_range_is_refused(build):
    with pytest.raises(ValueError, match=r"restore: expected a fidelity in \[0, 1\], got 1.5"):
        build().restore(_image(16, 16), fidelity=1.5)


@pytest.mark.parametrize("name", ["codeformer", "vqfr"])
def test_what_a_family_calls_its_default_is_what_its_model_does(name):
    model, image = {"codeformer": small.codeformer, "vqfr": small.vqfr2}[name](), _image(16, 16)
    default = find_family(name).options["fidelity"].default
    assert torch.equal(model.restore(image), model.restore(image, fidelity=default))


def test_vqfr_gives_the_picture_that_its_training_judges_unless_told_otherwise():
    model, image = small.vqfr2(), _image(16, 16)
    judged = model.decode(model(image), image)
    torch.testing.assert_close(model.restore(image), judged, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(judged, model.restore(image, fidelity=0.0))


def test_the_task_decides_statistics_and_fidelity():
    image = _image(16, 16)
    for task, fidelity, adapt in (("restoration", 0.5, True), ("inpainting", 1.0, False), ("colourisation", 0.0, True)):
        model = small.codeformer(task=task)
        assert torch.equal(model.restore(image), model.restore(image, fidelity=fidelity, adapt=adapt))
        assert not torch.allclose(model.restore(image), model.restore(image, fidelity=fidelity, adapt=not adapt))


def test_gradients_of_a_picture_reach_the_taps_alone():
    model = small.codeformer()
    recorder = model.taps.recorder()
    model.decode(model(_image(16, 16), record=recorder), recorder).square().mean().backward()
    moved = {name.split(".")[0] for name, value in model.named_parameters() if value.grad is not None}
    assert moved == {"taps"}


def test_gradients_of_vqfr_reach_the_branch_alone():
    model = small.vqfr2()
    image = _image(16, 16)
    model.decode(model(image), image).square().mean().backward()
    assert {name.split(".")[0] for name, value in model.named_parameters() if value.grad is not None} == {"branch"}


def test_dictionaries_do_not_learn_and_decoders_of_restoreformer_do():
    model = small.restoreformer()
    model(_image(16, 16)).image.square().mean().backward()
    learned = {name.split(".")[0] for name, value in model.named_parameters() if value.grad is not None}
    assert learned == {"encoder", "decoder"} and not model.codebook.weight.requires_grad
    first = small.vqfr1()
    first(_image(16, 16)).image.square().mean().backward()
    assert not first.codebook.weight.requires_grad
    assert first.decoder.conv_out.weight.grad is None  # only the texture picture has gradients for it
    assert first.decoder.from_code.weight.grad is not None and first.encoder.to_code.weight.grad is not None


def test_the_degraded_face_asks_and_the_codes_answer():
    model = small.restoreformer()
    image = _image(16, 16)
    recorder = model.recorder()
    codes = model.codebook(model.encoder(image, taps=recorder.taps)).codes
    guides = model.guides(recorder)
    answer = model.decoder(codes, guides=guides)
    torch.testing.assert_close(answer, model.restore(image), rtol=1e-3, atol=1e-3)
    others = {place: guide.roll(1, -1) for place, guide in guides.items()}
    assert not torch.allclose(model.decoder(codes, guides=others), answer)


@pytest.mark.parametrize("name", ["codeformer", "restoreformer", "vqfr"])
def test_the_restorer_takes_every_family(name):
    build = {
        "codeformer": small.codeformer, "restoreformer": partial(small.restoreformer, size=16),
        "vqfr": partial(small.vqfr2, size=16),
    }[name]  # fmt: skip
    restorer = Restorer(build())
    found = restorer.examine((_image(16, 16) + 1) / 2, always=True)
    assert found.images.shape == (1, 3, 16, 16)
    # where codes are predicted, the restorer says how sure it was
    assert (found.uncertainty is None) == (name == "restoreformer")
    assert find_family(name).name == name


def test_vqfr_moves_towards_the_input_with_its_ratio():
    """After a short training of the branch, the restored face is the nearer to the input the higher the ratio."""
    model = small.vqfr2()
    faces = torch.nn.functional.interpolate(_image(4, 4, batch=2), size=(16, 16), mode="bicubic").clamp(-1, 1)
    optimizer = torch.optim.Adam(model.branch.parameters(), lr=5e-3)
    with torch.no_grad():
        prediction = model(faces)
    for _ in range(25):
        optimizer.zero_grad()
        (model.decode(prediction, faces) - faces).square().mean().backward()
        optimizer.step()
    # the paper measures fidelity by PSNR
    errors = [float((model.restore(faces, fidelity=r).clamp(-1, 1) - faces).square().mean()) for r in (0.0, 0.5, 1.0)]
    assert errors[0] > errors[1] > errors[2]
