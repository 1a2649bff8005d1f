"""The four stages: what a step runs, what it moves, and what it must leave alone."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from codeprior.losses import PerceptualLoss
from codeprior.recipes.daefr import settings
from codeprior.recipes.daefr.association_stage import AssociationStage
from codeprior.recipes.daefr.codebook_stage import CodebookStage
from codeprior.recipes.daefr.model import DAEFR, SingleEncoder, vqgan
from codeprior.recipes.daefr.restoration_stage import RestorationStage
from codeprior.stages import Faces, Pair, going_on, rate_at, windows
from tests.recipes.tiny import SMALL, TINY, Colours, copied, moved, one_batch, restoration

CODEBOOK = SMALL | {"crop": None, "adversarial_from": None, "codes_from": 0.0, "perceptual_from": 0.0}


PLAIN = {"weights": {"l1": 1.0, "perceptual": 1.0, "adversarial": 0.8, "codebook": 1.0}}


def _codebook(**changes):
    torch.manual_seed(0)
    recipe = replace(settings.hq_codebook_small(), **(CODEBOOK | changes))
    return CodebookStage(recipe, perceptual=PerceptualLoss(Colours()))


def _association(**changes):
    torch.manual_seed(0)
    recipe = replace(settings.association_small(), **(CODEBOOK | changes))
    return AssociationStage(recipe, hq=vqgan(TINY), lq=vqgan(TINY), perceptual=PerceptualLoss(Colours()))


def _calls(module):
    count = []
    module.register_forward_hook(lambda *_: count.append(1))
    return count


@pytest.mark.parametrize(("generator_pass", "forwards"), [("shared", 1), ("sequential", 2)])
def test_a_codebook_step_runs_the_generator_once_or_once_an_optimiser(generator_pass, forwards):
    stage = _codebook(generator_pass=generator_pass, adversarial_start=0)
    count = _calls(stage.model.decoder)
    stage.update(one_batch(), 0)
    assert len(count) == forwards


@pytest.mark.parametrize(("generator_pass", "forwards"), [("shared", 1), ("sequential", 4 + 4 - 0)])
def test_an_association_step_runs_each_generator_once_or_once_an_optimiser(generator_pass, forwards):
    stage = _association(generator_pass=generator_pass, adversarial_start=0)
    counts = _calls(stage.hq.decoder), _calls(stage.lq.decoder)
    stage.update(one_batch(), 0)
    # sequential: both networks, for each of four optimisers; shared: once each
    assert [len(count) for count in counts] == ([1, 1] if generator_pass == "shared" else [4, 4])
    assert sum(map(len, counts)) == (2 if generator_pass == "shared" else forwards)


def test_shared_and_sequential_passes_pull_the_generator_alike():
    # the first generator step of both sees the same weights; only what follows differs
    shared, sequential = (
        _codebook(generator_pass=name, adversarial_start=0, codebook_term=1.0) for name in ("shared", "sequential")
    )
    image = Faces(size=32, degradation=None, degradation_size=64)(one_batch()).clean
    pulls = [stage.objective.generator_pass(image, 0) for stage in (shared, sequential)]
    assert torch.equal(pulls[0].gradients[0], pulls[1].gradients[0])
    assert pulls[0].metrics["total"] == pulls[1].metrics["total"]


def test_the_gate_keeps_the_discriminator_out_until_its_step():
    stage = _codebook(adversarial_start=3)
    before = copied(stage.objective.discriminator)
    metrics = stage.update(one_batch(), 2)
    assert "adversarial" not in metrics and not moved(stage.objective.discriminator, before)
    metrics = stage.update(one_batch(), 3)
    assert {"adversarial", "adaptive_weight", "discriminator"} <= set(metrics)
    assert moved(stage.objective.discriminator, before)


def test_the_cut_step_has_the_gradient_of_the_whole_objective():
    # written out: L1 + perceptual + 0.8 · w · (−D) + codebook terms, differentiated in one graph
    stage = _codebook(adversarial_start=0, adaptive="local", discriminator_norm="group", **PLAIN)
    stage.model.double(), stage.objective.discriminator.double(), stage.objective.perceptual.double()
    stage.model.eval(), stage.objective.discriminator.eval()  # no averages move between the two passes
    image = Faces(size=32, degradation=None, degradation_size=64)(one_batch()).clean.double()
    weights = stage.recipe.weights
    pull = stage.objective.generator_pass(image, 0)
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
    batch = one_batch()
    pair = stage.faces(batch)
    pulls = stage.hq_objective.generator_pass(pair.clean, 0), stage.lq_objective.generator_pass(pair.degraded, 0)
    loss = stage.association(*(pull.reconstruction.latent for pull in pulls))
    first, second = (p.reconstruction.latent.permute(0, 2, 3, 1).reshape(-1, 8) for p in pulls)
    first, second = first / first.norm(dim=1, keepdim=True), second / second.norm(dim=1, keepdim=True)
    scores = first @ second.T / 0.07
    truth = torch.arange(len(scores))
    written = (nn.functional.cross_entropy(scores, truth) + nn.functional.cross_entropy(scores.T, truth)) / 2
    torch.testing.assert_close(loss, written, rtol=1e-5, atol=1e-6)  # float32, another order of summation
    before = copied(stage.hq), copied(stage.lq)
    stage.update(batch, 0)
    assert all(
        any("encoder" in name for name in moved(m, b)) for m, b in zip((stage.hq, stage.lq), before, strict=True)
    )


def test_a_pass_without_a_graph_says_what_one_with_a_graph_says():
    stage = _codebook(adversarial_start=0)
    image = Faces(size=32, degradation=None, degradation_size=64)(one_batch()).clean
    stage.model.eval(), stage.objective.discriminator.eval()  # no averages move between the two passes
    trained = [name for name, parameter in stage.model.named_parameters() if parameter.requires_grad]
    recorded, bare = (stage.objective.generator_pass(image, 0, recorded=choice) for choice in (True, False))
    assert recorded.metrics == bare.metrics
    assert recorded.roots[0].requires_grad and not any(root.requires_grad for root in bare.roots)
    assert [name for name, parameter in stage.model.named_parameters() if parameter.requires_grad] == trained


def test_restoration_never_runs_the_decoder_in_training():
    stage = restoration()
    count = _calls(stage.model.prior.decoder)
    stage.update(one_batch(), 0)
    assert not count
    stage.preview(one_batch())
    assert count


@pytest.mark.parametrize(("branches", "model"), [("dual", DAEFR), ("single", SingleEncoder)])
def test_restoration_moves_its_own_half_and_leaves_the_prior(branches, model):
    stage = restoration(branches=branches)
    assert isinstance(stage.model, model)
    before, teacher = copied(stage.model), copied(stage.teacher)
    stage.update(one_batch(), 0)
    learned = moved(stage.model, before)
    assert not moved(stage.teacher, teacher) and not any(name.startswith("prior.") for name in learned)
    halves = {name.split(".")[0] for name in learned}
    assert halves == (
        {"hq_encoder", "lq_encoder", "fusion", "predictor"} if branches == "dual" else {"encoder", "predictor"}
    )


def test_restoration_begins_where_association_ended():
    hq, lq, teacher = vqgan(TINY), vqgan(TINY), vqgan(TINY)
    recipe = replace(settings.restoration_small(), network=TINY, degradation_size=64)
    stage = RestorationStage(recipe, teacher=teacher, hq=hq, lq=lq)
    for mine, theirs in ((stage.model.hq_encoder, hq.encoder), (stage.model.lq_encoder, lq.encoder)):
        assert all(
            torch.equal(a, b) for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True)
        )
    with pytest.raises(ValueError, match="a dual recipe needs the LQ network of stage 2; pass lq="):
        RestorationStage(recipe, teacher=teacher, hq=hq)


def test_restoration_learns_two_faces_by_heart():
    stage = restoration(learning_rate=1e-2, steps=40, decay_from=1.0)
    batch = one_batch(2)
    first = stage.update(batch, 0)
    for step in range(1, 40):
        last = stage.update(batch, step)
    assert last["total"] < 0.6 * first["total"] and last["accuracy"] > first["accuracy"]


def test_a_degradation_depends_on_the_samples_key_alone():
    faces = Faces(size=32, degradation="daefr", degradation_size=64)
    batch = one_batch(3)
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
    recipe = replace(settings.restoration(), steps=100, decay_from=0.5, learning_rate=2.0)
    assert [rate_at(recipe, step) for step in (0, 50, 75, 100)] == [2.0, 2.0, 1.0, 0.0]


def test_the_rate_warms_up_and_falls_as_half_a_cosine():
    recipe = replace(settings.restoration(), steps=100, decay="cosine", decay_from=0.0, learning_rate=2.0)
    found = [rate_at(recipe, step) for step in (0, 25, 50, 100)]
    assert found == pytest.approx([2.0, 1 + 2**-0.5, 1.0, 0.0])
    warm = replace(recipe, decay_from=1.0, warmup=3)
    assert [rate_at(warm, step) for step in (0, 1, 2, 3, 99)] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert rate_at(replace(recipe, decay_from=1.0), 99) == 2.0


def test_codes_start_by_k_means_where_the_recipe_lets_them_in():
    stage = _codebook(codes_from=0.5, steps=8)
    codebook = stage.model.codebook
    before = copied(codebook)
    for step in range(4):
        metrics = stage.update(one_batch(seed=step), step)
        assert "perplexity" not in metrics and float(metrics["codebook"]) == 0
    assert not moved(codebook, before) and len(stage.objective.reservoir.held()) == 4 * 2 * 8 * 8
    held = stage.objective.reservoir.held().clone()
    metrics = stage.update(one_batch(seed=4), 4)
    assert float(metrics["codes_used"]) > 0.5
    # the first table stands among the vectors that were seen, not where it was drawn
    first = codebook.codebooks[0]
    started, drawn = (torch.cdist(rows, held).amin(1).max() for rows in (first.weight, before["codebooks.0.weight"]))
    assert started < drawn
    assert torch.equal(stage.objective.average.module.codebook.codebooks[0].counts > 0, first.counts > 0)


def test_every_rank_keeps_the_vectors_of_all_ranks_for_the_start(monkeypatch):
    # a checkpoint holds the reservoir of one rank: a run that is started again must not begin with that rank's alone
    monkeypatch.setattr("codeprior.distributed.gather", lambda value: [value, value + 100])
    stage = _codebook(codes_from=0.5, steps=8)
    stage.update(one_batch(), 0)
    held = stage.objective.reservoir.held()
    assert len(held) == 2 * 2 * 8 * 8 and int((held > 50).all(1).sum()) == 2 * 8 * 8


def test_a_started_vqgan_goes_on_with_its_codes():
    # the recipe's first part is without codes, and k-means would start them at its end
    options = {"codes_from": 0.5, "perceptual_from": 0.5, "crop": None, "average": None}
    recipe = replace(_codebook().recipe, steps=4, **options)
    start = vqgan(recipe.network)
    start.codebook.start(torch.randn(500, recipe.network.dim))
    before = copied(start.codebook)
    stage = CodebookStage(recipe, perceptual=PerceptualLoss(Colours()), start=start)
    assert not moved(stage.model.codebook, before)
    again = []
    stage.model.codebook.start = lambda *given, **more: again.append(given)
    metrics = [stage.update(one_batch(), step) for step in range(3)]
    assert all({"codes_used", "perceptual"} <= set(one) for one in metrics)
    assert not again
    assert stage.recipe == going_on(recipe) and stage.recipe.crop_until == recipe.crop_until


@pytest.mark.parametrize(("below", "rests"), [(10.0, True), (1e-6, False)])
def test_a_winning_discriminator_rests(below, rests):
    stage = _codebook(adversarial_start=0, discriminator_rest=below)
    before = copied(stage.objective.discriminator)
    metrics = stage.update(one_batch(), 0)
    # spectral norm's own vectors may follow; nothing that is trained moves
    trained = {name for name, _ in stage.objective.discriminator.named_parameters()}
    learned = moved(stage.objective.discriminator, before) & trained
    assert bool(metrics["discriminator_rests"]) is rests and bool(learned) is not rests
    assert 0 <= float(metrics["discriminator_right"]) <= 1


def test_what_is_handed_on_is_the_average_of_the_weights():
    stage = _codebook(average=0.9)
    for step in range(3):
        stage.update(one_batch(seed=step), step)
    assert stage.results["vqgan"] is stage.objective.average.module
    assert not torch.equal(stage.results["vqgan"].encoder.conv_in.weight, stage.model.encoder.conv_in.weight)
    assert _codebook(average=None).results.keys() == {"vqgan", "discriminator"}


@pytest.mark.parametrize("clip", [None, 1e-3])
def test_long_gradients_are_cut_to_their_largest_norm(clip):
    stage, seen = _codebook(clip=clip, average=None), []

    def look(optimizer, *_):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        seen.append(torch.stack([gradient.norm() for gradient in gradients]).norm())

    stage.objective.generator_optimizer.register_step_pre_hook(look)
    stage.update(one_batch(), 0)
    assert seen[0] > 1e-2 if clip is None else seen[0] == pytest.approx(1e-3, rel=1e-3)


def test_a_mixture_gives_each_sample_one_damage_by_its_key():
    mixed = Faces(size=32, degradation={"daefr": 0.5, "clean": 0.5}, degradation_size=64)
    only = Faces(size=32, degradation="daefr", degradation_size=64)
    batch = one_batch(12)
    found, clean, damaged = mixed(batch).degraded, mixed(batch).clean, only(batch).degraded
    kinds = [(torch.equal(f, c), torch.equal(f, d)) for f, c, d in zip(found, clean, damaged, strict=True)]
    assert set(kinds) == {(True, False), (False, True)}
    assert torch.equal(mixed(batch.parts(6)[4]).degraded, found[8:10])


def test_shares_of_a_mixture_are_kept():
    mixed = Faces(size=32, degradation={"daefr": 0.25, "clean": 0.75}, degradation_size=64)
    keys = torch.randint(0, 2**62, (4000,), generator=torch.Generator().manual_seed(0)).tolist()
    places = mixed._by_preset(keys)
    # four standard deviations of a count of 4,000
    assert abs(len(places["daefr"]) - 1000) < 4 * (4000 * 0.25 * 0.75) ** 0.5
