"""Tensors of other people's checkpoints under our names: an installed family that knows their layout builds modules."""

from codeprior.families import Converted, Family, State, find_family, installed_families
from codeprior.weights.bounds import no_larger_than


def convert_state(
    state: State, *, family: str | None = None, variant: str | None = None
) -> tuple[Family, Converted] | None:
    """Gives the modules that an installed family builds from tensors, or None where none knows their names.

    Args:
        state: Tensors by their names in the checkpoint.
        family: Name of the family; all of them by default.
        variant: Which of the layout's variants it is, where the tensors do not show it; None leaves it to the layout.

    Raises:
        ValueError: No such family is installed, the layout has no such variant; or the names are of a layout, and the
            tensors make no whole model.
    """
    for one in installed_families() if family is None else (find_family(family),):
        # of a family that is asked for by name, the first layout says what is wrong with tensors of no layout
        for layout in [layout for layout in one.layouts if layout.detect(state)] or (one.layouts if family else ()):
            if variant is not None and variant not in layout.variants:
                there = ", ".join(layout.variants) or "no variants"
                raise ValueError(f"the layout of {layout.name} has {there}, not {variant!r}")
            chosen = {} if variant is None else {"variant": variant}
            try:
                with no_larger_than(state):
                    return one, layout.convert(state, **chosen)
            except KeyError as error:
                raise ValueError(
                    f"it has names of {layout.name} and lacks the tensor {error.args[0]}, so it is a part of a "
                    "checkpoint only; --recipe none keeps what is there under its own names"
                ) from error
            except (RuntimeError, ValueError, TypeError, IndexError, StopIteration, ArithmeticError) as error:
                reason = " ".join(str(error).split())[:400] or type(error).__name__
                begins = f"it has names of {layout.name}, but its tensors make no whole model"
                if not layout.detect(state):
                    begins = f"it has not the names of {layout.name}"
                raise ValueError(
                    f"{begins}: {reason}; --recipe none keeps what is there under its own names"
                ) from error
    return None
