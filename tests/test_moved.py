"""Names that have moved work for one release, and say where they are now."""

from importlib import import_module
from operator import attrgetter

import pytest

from codeprior import degradations, stages

MOVED = {
    "objective.Objective": "VQGANObjective",
    "objective.Pull": "BackwardInputs",
    "data.Faces": "Faces",
    "data.windows": "windows",
    "updates.apart": "sync_gradients_on_last_part",
    "updates.rate_at": "rate_at",
    "cached_codes.use_cached_codes": "use_cached_codes",
    "validation.Validation": "validation.Validation",
    "codebook_stage.seen": "training_view",
}


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_gives_the_new_one_with_a_warning(old):
    module, name = old.split(".")
    before = import_module(f"codeprior.recipes.daefr.{module}")
    with pytest.warns(DeprecationWarning, match=f"daefr.{old} has moved to codeprior.stages"):
        found = getattr(before, name)
    assert found is attrgetter(MOVED[old])(stages)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("degradations.compression.Jpeg", "degradations.jpeg.Jpeg"),
        ("degradations.compression.jpeg_levels", "degradations.jpeg.jpeg_levels"),
        ("degradations.combine.Chain", "degradations.chain.Chain"),
        ("degradations.combine.Pair", "degradations.chain.Pair"),
        ("degradations.steps.Step", "degradations.chain.Step"),
        ("recipes.daefr.recipes.CodebookRecipe", "recipes.daefr.settings.CodebookRecipe"),
        ("recipes.daefr.sweeps.SWEEPS", "evaluation.sweeps.SWEEPS"),
        ("recipes.daefr.severity.plot", "evaluation.plot_severity"),
        ("losses.weight_of_pulls", "losses.weight_of_gradients"),
    ],
)
def test_a_module_that_has_moved_is_imported_under_its_old_name_with_a_warning(old, new):
    place, _, name = old.rpartition(".")
    with pytest.warns(DeprecationWarning, match=rf"^codeprior\.{old} has moved to codeprior\.{new}$"):
        found = getattr(import_module(f"codeprior.{place}"), name)
    target, _, today = new.rpartition(".")
    assert found is getattr(import_module(f"codeprior.{target}"), today)


def test_an_old_module_never_hides_a_function_of_its_name():
    import codeprior.degradations.combine
    import codeprior.degradations.steps

    with pytest.warns(DeprecationWarning, match="degradations.chain.Chain"):
        assert codeprior.degradations.combine.Chain is degradations.Chain
    assert degradations.steps is import_module("codeprior.degradations.chain").steps


def test_other_names_are_not_found():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        import_module("codeprior.recipes.daefr.codebook_stage").nothing  # noqa: B018
