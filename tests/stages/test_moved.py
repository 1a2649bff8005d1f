"""Names that have moved here from a family work for one release, and say where they are now."""

from importlib import import_module
from operator import attrgetter

import pytest

from codeprior import stages

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


def test_other_names_are_not_found():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        import_module("codeprior.recipes.daefr.codebook_stage").nothing  # noqa: B018
