"""The four stages: what a step runs, what it moves, and what it must leave alone."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from codeprior.losses import PerceptualLoss
from codeprior.recipes.daefr import recipes
from codeprior.recipes.daefr.association_stage import AssociationStage
from codeprior.recipes.daefr.codebook_stage import CodebookStage
from codeprior.recipes.daefr.data import Faces, Pair, windows
from codeprior.recipes.daefr.model import DAEFR, SingleEncoder, vqgan
from codeprior.recipes.daefr.restoration_stage import RestorationStage
from codeprior.recipes.daefr.updates import rate_at
from codeprior.training import Batch

TINY = replace(
    recipes.small_network(), size=32, dim=8, codes=16, channels=8, multipliers=(1, 2), groups=4, fusion_groups=4,
    fusion_heads=2, width=16, layers=1, heads=2, hidden=16, decoder_blocks=1,
)  # fmt: skip
SMALL = {"network": TINY, "degradation_size": 64, "batch": 2, "crop": None}


class _Colours(nn.Module):
    """A feature network that is the image itself, so that the perceptual term costs nothing."""

    channels = (3,)

    def forward(self, image):
        return [image]


def _batch(count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    clean = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    clean = clean.repeat_interleave(8, -1).repeat_interleave(8, -2)
    return Batch(clean, torch.arange(count) + 17, torch.arange(count), torch.zeros(count, dtype=torch.bool))


def _codebook(**changes):
    torch.manual_seed(0)
    recipe = replace(recipes.hq_codebook_small(), **(SMALL | changes))
    return CodebookStage(recipe, perceptual=PerceptualLoss(_Colours()))


def _association(**changes):
    torch.manual_seed(0)
    recipe = replace(recipes.association_small(), **(SMALL | changes))
    return AssociationStage(recipe, hq=vqgan(TINY), lq=vqgan(TINY), perceptual=PerceptualLoss(_Colours()))


def _restoration(**changes):
    torch.manual_seed(0)
    recipe = replace(recipes.restoration_small(), **({k: v for k, v in SMALL.items() if k != "crop"} | changes))
    teacher = vqgan(TINY)
    lq = None if recipe.branches == "single" else vqgan(TINY)
    return RestorationStage(recipe, teacher=teacher, hq=vqgan(TINY), lq=lq)


def _calls(module):
    count = []
    module.register_forward_hook(lambda *_: count.append(1))
    return count


def _moved(module, before):
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def _copy(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize(("generator_pass", "forwards"), [("shared", 1), ("sequential", 2)])
def test_a_codebook_step_runs_the_generator_once_or_once_an_optimiser(generator_pass, forwards):
    stage = _codebook(generator_pass=generator_pass, adversarial_start=0)
    count = _calls(stage.model.decoder)
    stage.update(_batch(), 0)
    assert len(count) == forwards


@pytest.mark.parametrize(("generator_pass", "forwards"), [("shared", 1), ("sequential", 4 + 4 - 0)])
def test_an_association_step_runs_each_generator_once_or_once_an_optimiser(generator_pass, forwards):
    stage = _association(generator_pass=generator_pass, adversarial_start=0)
    counts = _calls(stage.hq.decoder), _calls(stage.lq.decoder)
    stage.update(_batch(), 0)
    # sequential: both networks, for each of four optimisers; shared: once each
    assert [len(count) for count in counts] == ([1, 1] if generator_pass == "shared" else [4, 4])
    assert sum(map(len, counts)) == (2 if generator_pass == "shared" else forwards)


def test_shared_and_sequential_passes_pull_the_generator_alike():
    # the first generator step of both sees the same weights; only what follows differs
    shared, sequential = (
        _codebook(generator_pass=name, adversarial_start=0, codebook_term=1.0) for name in ("shared", "sequential")
    )
    image = Faces(size=32, degradation=None, degradation_size=64)(_batch()).clean
    pulls = [stage.objective.pull(image, 0) for stage in (shared, sequential)]
    assert torch.equal(pulls[0].gradients[0], pulls[1].gradients[0])
    assert pulls[0].metrics["total"] == pulls[1].metrics["total"]


def test_the_gate_keeps_the_discriminator_out_until_its_step():
    stage = _codebook(adversarial_start=3)
    before = _copy(stage.objective.discriminator)
    metrics = stage.update(_batch(), 2)
    assert "adversarial" not in metrics and not _moved(stage.objective.discriminator, before)
    metrics = stage.update(_batch(), 3)
    assert {"adversarial", "adaptive_weight", "discriminator"} <= set(metrics)
    assert _moved(stage.objective.discriminator, before)


def test_the_cut_step_has_the_gradient_of_the_whole_objective():
    # written out: L1 + perceptual + 0.8 · w · (−D) + codebook terms, differentiated in one graph
    stage = _codebook(adversarial_start=0, adaptive="local")
    stage.model.double(), stage.objective.discriminator.double(), stage.objective.perceptual.double()
    stage.model.eval(), stage.objective.discriminator.eval()  # no averages move between the two passes
    image = Faces(size=32, degradation=None, degradation_size=64)(_batch()).clean.double()
    weights = stage.recipe.weights
    pull = stage.objective.pull(image, 0)
    torch.autograd.backward(pull.roots, pull.gradients)
    cut = {name: p.grad.clone() for name, p in stage.model.named_parameters() if p.grad is not None}
    stage.model.zero_grad(set_to_none=True)
    result = stage.model(image)
    faithful = weights["l1"] * (result.image - image).abs().mean()
    faithful = faithful + weights["perceptual"] * stage.objective.perceptual(result.image, image)
    fooling = -stage.objective.discriminator(result.image).mean()
    last = stage.model.decoder.last_layer.weight
    wanted, pulled = (torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (faithful, fooling))
    adaptive = (wanted / (pulled + 1e-4)).clamp(0, 1e4)
    codes, latent = result.quantized.codes.detach(), result.latent
    total = faithful + weights["adversarial"] * adaptive * fooling + ((codes - latent) ** 2).mean()
    total.backward()
    whole = {name: p.grad for name, p in stage.model.named_parameters() if p.grad is not None}
    assert cut.keys() == whole.keys()
    for name in whole:
        # float64; key biases have no gradient but rounding
        torch.testing.assert_close(cut[name], whole[name], rtol=1e-8, atol=1e-12)


def test_association_reaches_both_encoders_and_agrees_with_the_formula():
    stage = _association()
    batch = _batch()
    pair = stage.faces(batch)
    pulls = stage.hq_objective.pull(pair.clean, 0), stage.lq_objective.pull(pair.degraded, 0)
    loss = stage.association(*(pull.reconstruction.latent for pull in pulls))
    first, second = (p.reconstruction.latent.permute(0, 2, 3, 1).reshape(-1, 8) for p in pulls)
    first, second = first / first.norm(dim=1, keepdim=True), second / second.norm(dim=1, keepdim=True)
    scores = first @ second.T / 0.07
    truth = torch.arange(len(scores))
    written = (nn.functional.cross_entropy(scores, truth) + nn.functional.cross_entropy(scores.T, truth)) / 2
    torch.testing.assert_close(loss, written, rtol=1e-5, atol=1e-6)  # float32, another order of summation
    before = _copy(stage.hq), _copy(stage.lq)
    stage.update(batch, 0)
    assert all(
        any("encoder" in name for name in _moved(m, b)) for m, b in zip((stage.hq, stage.lq), before, strict=True)
    )


def test_a_pass_without_a_graph_says_what_one_with_a_graph_says():
    stage = _codebook(adversarial_start=0)
    image = Faces(size=32, degradation=None, degradation_size=64)(_batch()).clean
    stage.model.eval(), stage.objective.discriminator.eval()  # no averages move between the two passes
    trained = [name for name, parameter in stage.model.named_parameters() if parameter.requires_grad]
    recorded, bare = (stage.objective.pull(image, 0, recorded=choice) for choice in (True, False))
    assert recorded.metrics == bare.metrics
    assert recorded.roots[0].requires_grad and not any(root.requires_grad for root in bare.roots)
    assert [name for name, parameter in stage.model.named_parameters() if parameter.requires_grad] == trained


def test_restoration_never_runs_the_decoder_in_training():
    stage = _restoration()
    count = _calls(stage.model.prior.decoder)
    stage.update(_batch(), 0)
    assert not count
    stage.preview(_batch())
    assert count


@pytest.mark.parametrize(("branches", "model"), [("dual", DAEFR), ("single", SingleEncoder)])
def test_restoration_moves_its_own_half_and_leaves_the_prior(branches, model):
    stage = _restoration(branches=branches)
    assert isinstance(stage.model, model)
    before, teacher = _copy(stage.model), _copy(stage.teacher)
    stage.update(_batch(), 0)
    moved = _moved(stage.model, before)
    assert not _moved(stage.teacher, teacher) and not any(name.startswith("prior.") for name in moved)
    halves = {name.split(".")[0] for name in moved}
    assert halves == (
        {"hq_encoder", "lq_encoder", "fusion", "predictor"} if branches == "dual" else {"encoder", "predictor"}
    )


def test_restoration_begins_where_association_ended():
    hq, lq, teacher = vqgan(TINY), vqgan(TINY), vqgan(TINY)
    recipe = replace(recipes.restoration_small(), network=TINY, degradation_size=64)
    stage = RestorationStage(recipe, teacher=teacher, hq=hq, lq=lq)
    for mine, theirs in ((stage.model.hq_encoder, hq.encoder), (stage.model.lq_encoder, lq.encoder)):
        assert all(
            torch.equal(a, b) for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True)
        )
    with pytest.raises(ValueError, match="a dual recipe needs the LQ network of stage 2; pass lq="):
        RestorationStage(recipe, teacher=teacher, hq=hq)


def test_restoration_learns_two_faces_by_heart():
    stage = _restoration(learning_rate=1e-2, steps=40, decay_from=1.0)
    batch = _batch(2)
    first = stage.update(batch, 0)
    for step in range(1, 40):
        last = stage.update(batch, step)
    assert last["total"] < 0.6 * first["total"] and last["accuracy"] > first["accuracy"]


def test_a_degradation_depends_on_the_samples_key_alone():
    faces = Faces(size=32, degradation="daefr", degradation_size=64)
    batch = _batch(3)
    whole = faces(batch).degraded
    alone = faces(batch.parts(3)[1]).degraded
    assert torch.equal(whole[1:2], alone)
    assert not torch.equal(whole[0], faces(batch._replace(keys=batch.keys + 1)).degraded[0])


def test_windows_cut_the_same_place_of_both_images():
    clean = torch.arange(2 * 3 * 16 * 16.0).reshape(2, 3, 16, 16)
    cut = windows(Pair(clean, clean + 0.5), 4, torch.tensor([5, 123456789]))
    assert cut.clean.shape == (2, 3, 4, 4) and torch.equal(cut.clean + 0.5, cut.degraded)
    corner = int(cut.clean[0, 0, 0, 0])
    assert torch.equal(cut.clean[0], clean[0, :, corner // 16 : corner // 16 + 4, corner % 16 : corner % 16 + 4])


def test_the_rate_is_constant_then_a_straight_line_to_zero():
    recipe = replace(recipes.restoration_small(), steps=100, decay_from=0.5, learning_rate=2.0)
    assert [rate_at(recipe, step) for step in (0, 50, 75, 100)] == [2.0, 2.0, 1.0, 0.0]
    assert rate_at(replace(recipe, decay_from=1.0), 99) == 2.0
