"""Spandrel, the loader of ComfyUI and chaiNNer, with our families in its registry.

`install()` adds every family whose published checkpoints this library reads, and the weights files of this library that
are named, to the registry that spandrel's `ModelLoader` asks. The other way goes `codeprior.restorers.load_peer`: a
face model that only spandrel knows, such as GFPGAN, as a model that restores.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from codeprior import weights as stored
from codeprior.checkpoints import read_checkpoint
from codeprior.extras import needed
from codeprior.families import Family, Layout, installed_families
from codeprior.images import to_signed, to_unit
from codeprior.restorers.models import side
from codeprior.weights.layouts.restoreformer import is_restoreformer


def install(*files: str | Path) -> tuple[str, ...]:
    """Adds our families to spandrel's main registry, so that its `ModelLoader` loads their checkpoints.

    Sizes come from the shapes of the tensors. A checkpoint of a first stage, which gives clean faces back and restores
    none, is refused with a reason instead of being taken for RestoreFormer. Families that spandrel has, such as GFPGAN
    and the first RestoreFormer, stay its own; RestoreFormer++ is ours.

    Args:
        files: Weights files that `codeprior.save` or `codeprior convert` wrote, or folders of them. Spandrel is handed
            tensors only, whose shapes do not say everything, so those files are recognised by the shapes of all their
            tensors; weights that the families embed are known already.

    Returns:
        The identifiers that were added; a second call adds only what is new.

    Raises:
        FileNotFoundError: One of the files is not there.
        ImportError: spandrel is not installed.
        ValueError: One of the files is not a weights file of this library.
    """
    spandrel: Any = needed("spandrel", who="integrations.spandrel")
    registry = spandrel.MAIN_REGISTRY
    theirs = tuple(arch.architecture.id for arch in registry.architectures() if not _is_ours(arch.architecture.id))
    made = [_first_stage(spandrel)]
    # the first RestoreFormer and others that spandrel has stay its own; RestoreFormer++ it has not
    has = {"spandrel", *(name.lower() for name in theirs)} - {"restoreformer"}
    for family in installed_families():
        made += [_published(spandrel, family, layout) for layout in family.layouts if family.name not in has]
        made += [_native(spandrel, path) for path in family.embedded.values()]
    for path in map(Path, files):
        made += [_native(spandrel, one) for one in (sorted(path.glob("*.safetensors")) if path.is_dir() else [path])]
    supports = [spandrel.ArchSupport.from_architecture(one, before=theirs) for one in made]
    return tuple(one.architecture.id for one in registry.add(*supports, ignore_duplicates=True))


def _is_ours(name: str) -> bool:
    return name.startswith("codeprior")


def _published(spandrel: Any, family: Family, layout: Layout) -> Any:
    """Gives the architecture of a family's published checkpoints."""

    def detect(state: Mapping[str, Tensor]) -> bool:
        # the first RestoreFormer is spandrel's own; only ++ attends at half the deepest resolution too
        return layout.detect(state) and (not is_restoreformer(state) or _is_plus(state))

    def load(state: Mapping[str, Tensor]) -> nn.Module:
        converted = stored.convert_state(state, family=family.name)
        model = None if converted is None else converted[1].modules.get("restorer")
        if model is None:
            raise spandrel.UnsupportedModelError(_not_restoring(family.name))
        return model

    return _architecture(spandrel, f"codeprior-{family.name}", family.name, detect=detect, load=load)


def _first_stage(spandrel: Any) -> Any:
    """Gives an architecture that refuses auto-encoders in the names of taming-transformers."""

    def detect(state: Mapping[str, Tensor]) -> bool:
        stripped = {key.removeprefix("vqvae.") for key in state}
        whole = {"encoder.conv_in.weight", "decoder.conv_in.weight", "quant_conv.weight", "quantize.embedding.weight"}
        return whole <= stripped and "decoder.mid.attn_1.norm2.weight" not in stripped

    def load(_state: Mapping[str, Tensor]) -> nn.Module:
        raise spandrel.UnsupportedModelError(_not_restoring("a VQGAN"))

    return _architecture(spandrel, "codeprior-first-stage", "VQGAN of a first stage", detect=detect, load=load)


def _native(spandrel: Any, path: Path) -> Any:
    """Gives the architecture of one weights file of ours: any state with its names and shapes."""
    header = stored.read_metadata(path)
    config = header.get("codeprior.config")
    if config is None:
        raise ValueError(f"integrations.spandrel: {path} does not say how to build its module; codeprior.save does.")
    try:
        said = json.loads(config)["class"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"integrations.spandrel: {path} does not say which module it builds.") from error
    shapes = {name: tuple(value.shape) for name, value in read_checkpoint(path).tensors.items()}
    digest = header.get("codeprior.sha256", "")[:12]

    def detect(state: Mapping[str, Tensor]) -> bool:
        return len(state) == len(shapes) and {key: tuple(value.shape) for key, value in state.items()} == shapes

    def load(state: Mapping[str, Tensor]) -> nn.Module:
        model = stored.load(path)
        if not callable(getattr(model, "restore", None)):
            raise spandrel.UnsupportedModelError(_not_restoring(type(model).__name__))
        model.load_state_dict(dict(state), strict=True)
        return model

    return _architecture(spandrel, f"codeprior-{path.stem}-{digest}", f"codeprior {said}", detect=detect, load=load)


def _architecture(spandrel: Any, identifier: str, name: str, *, detect: Any, load: Any) -> Any:
    class _Ours(spandrel.Architecture):
        def __init__(self) -> None:
            super().__init__(id=identifier, name=name, detect=detect)

        def load(self, state_dict: dict[str, Tensor]) -> Any:
            model: Any = load(state_dict).eval()
            return spandrel.ImageModelDescriptor(
                model, model.state_dict(), architecture=self, purpose="FaceSR", tags=[f"{side(model)}px"],
                supports_half=False, supports_bfloat16=False, scale=model.scale, input_channels=3, output_channels=3,
                size_requirements=spandrel.SizeRequirements(minimum=side(model), multiple_of=side(model), square=True),
                tiling=spandrel.ModelTiling.DISCOURAGED,
                call_fn=lambda model, image: to_unit(model.restore(to_signed(image))),
            )  # fmt: skip

    return _Ours()


def _is_plus(state: Mapping[str, Tensor]) -> bool:
    levels = [key.partition("decoder.up.")[2] for key in state]
    return len({level.split(".")[0] for level in levels if ".attn." in level}) > 1


def _not_restoring(what: str) -> str:
    return (
        f"These are the weights of a first stage ({what}): an auto-encoder that gives clean faces back and restores "
        "none. Load the restorer's file."
    )
