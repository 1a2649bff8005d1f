"""The plain update of a VQGAN is the one in parts with one part, and the adaptive weight has its limit."""

import pytest
import torch

from codeprior.stages import update_in_parts
from tests.torture import stages


@pytest.mark.parametrize("step", [0, 30])
def test_the_plain_update_is_that_of_one_part(tmp_path, step):
    # at step 30 of 40 the discriminator takes part, and whole images are seen
    plain, parts = stages.stage("hq"), stages.stage("hq")
    image = plain.faces(stages.stream(tmp_path / "faces").at(0)).degraded
    found = plain.objective.update(image, step)
    expected = update_in_parts(parts.objective, [image], step)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    assert stages.digest(plain) == stages.digest(parts)


def test_the_adaptive_weight_has_the_limit_of_the_settings(tmp_path):
    image = stages.stage("hq").faces(stages.stream(tmp_path / "faces").at(0)).degraded
    free, limited = (stages.stage("hq", adaptive_limit=limit) for limit in (1e4, 1e-3))
    found = [float(one.objective.generator_pass(image, 30).metrics["adaptive_weight"]) for one in (free, limited)]
    adversarial = limited.recipe.weights["adversarial"]
    assert found[1] == pytest.approx(adversarial * 1e-3) and found[0] > found[1]
