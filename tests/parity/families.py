"""Every array of the codebook family's fixtures, computed anew from names of images and weights alone.

A model is filled by the official keys and converted by the library's own layouts, so that a wrong name shows here.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.codebooks import perplexity, usage
from codeprior.kernels import use_impl
from codeprior.layers import MIDDLE, Recorder, Tap
from codeprior.losses import codebook_loss
from codeprior.prior import VQGAN
from tests.parity import fill

Arrays = dict[str, Any]
KEYS = Path(__file__).parent / "fixtures" / "codebook_family"
_SIZE = 512


class Model(NamedTuple):
    """One of the recorded models."""

    family: str
    """Package of its recipe."""
    choices: dict[str, str]
    """What its file cannot say."""
    pictures: tuple[str, ...]
    """Tags of its recorded pictures, cheapest first."""
    traced: str
    """Tag of the picture during which the taps were recorded."""


_WEIGHTS = ("w050_adain1", "w000_adain1", "w100_adain1", "w050_adain0", "w000_adain0", "w100_adain0")
MODELS = {
    "codeformer": Model("codeformer", {}, _WEIGHTS, "w100_adain1"),
    "codeformer_vqgan": Model("codeformer", {}, ("out",), "out"),
    "restoreformer": Model("restoreformer", {}, ("out",), "out"),
    "restoreformer_hq_dictionary": Model("restoreformer", {"variant": "dictionary"}, ("out",), "out"),
    "restoreformerpp": Model("restoreformer", {}, ("out",), "out"),
    "vqfr_v1": Model("vqfr", {}, ("texture_dec", "main_dec"), "main_dec"),
    "vqfr_v1_vqgan": Model("vqfr", {}, ("dec",), "dec"),
    "vqfr_v2": Model("vqfr", {}, ("texture_dec", "main_dec_f050", "main_dec_f100"), "main_dec_f100"),
    "vqfr_v2_nearest": Model("vqfr", {}, ("texture_dec", "main_dec_f050"), "main_dec_f050"),
    "vqfr_v2_vqgan": Model("vqfr", {}, ("dec",), "dec"),
}


def model_of(path: Path) -> str | None:
    """Gives the recorded model that a file is named for: the longest name that it begins with."""
    return max((name for name in MODELS if re.match(rf"{name}(_|$)", path.stem)), key=len, default=None)


@lru_cache(maxsize=1)
def filled(name: str) -> tuple[nn.Module, Mapping[str, str]]:
    """Gives a filled model, and our name of each official tensor."""
    keys = json.loads((KEYS / f"keys_{name}.json").read_text())
    state = {key: fill.tensor_for(key, tuple(shape)) for key, shape, _ in keys}
    module = converted(name, state)
    return module.eval(), paired(name, state, module)


def converted(name: str, state: Mapping[str, Tensor]) -> nn.Module:
    """Gives what the family's own conversion makes of official tensors."""
    convert = import_module(f"codeprior.recipes.{MODELS[name].family}.convert").convert
    (module,) = convert(state, **MODELS[name].choices).modules.values()
    return module


def arrays(name: str, images: str, pictures: tuple[str, ...] | None = None) -> Arrays:
    """Gives all that was recorded of a model, or only some of its pictures.

    Args:
        name: One of `MODELS`.
        images: Last word of the image's name.
        pictures: Tags; all unless given.
    """
    model, names = filled(name)
    image = fill.image_for(f"{name}-{images}", 1, _SIZE)
    wanted = MODELS[name].pictures if pictures is None else pictures
    # models are compared here, not kernels: the compiled convolution is held to the plain one by its own tests, and the
    # transforms of a randomly filled CodeFormer would amplify its rounding to three thousandths
    with torch.no_grad(), use_impl("convolution=reference"):
        return _COMPUTED[_kind(name)](name, model, names, image, wanted)


def _autoencoder(name: str, model: VQGAN, names: Mapping[str, str], image: Tensor, wanted: tuple[str, ...]) -> Arrays:
    with traced(model, names) as taps:
        found = model(image)
    (tag,) = MODELS[name].pictures
    return {**_nearest(model.codebook.weight, found.latent), **pictured(tag, found.image), "taps": taps}


def _restoreformer(name: str, model: Any, names: Mapping[str, str], image: Tensor, wanted: tuple[str, ...]) -> Arrays:
    with traced(model, names) as taps:
        recorder: Recorder = model.recorder()
        latent = model.encoder(image, taps=recorder.taps)
        quantized = model.codebook(latent)
        answer = model.decoder(quantized.values, guides=model.guides(recorder))
    deep = {"block_5_atten": Tap(MIDDLE, 0), "mid_atten": Tap(MIDDLE)}
    return {
        **_nearest(model.codebook.weight, latent),
        **{f"{word}__first16": recorder.features[place][0, :16] for word, place in deep.items()},
        **pictured("out", answer),
        "taps": taps,
    }


def _codeformer(name: str, model: Any, names: Mapping[str, str], image: Tensor, wanted: tuple[str, ...]) -> Arrays:
    recorder = model.taps.recorder()
    trace = MODELS[name].traced in wanted
    with traced(model, names if trace else {}) as taps:
        prediction = model(image, record=recorder)
        found = {}
        for tag in sorted(wanted, key=lambda tag: tag != MODELS[name].traced):
            weight, adapt = re.fullmatch(r"w(\d+)_adain(\d)", tag).groups()
            with paused(taps, unless=tag == MODELS[name].traced):
                used = recorder if int(weight) else None
                answer = model.decode(prediction, used, fidelity=int(weight) / 100, adapt=adapt == "1")
            found |= pictured(tag, answer)
    latent = prediction.latent[0]
    found |= {"lq_feat": latent, "lq_feat__first8": latent[:8], **_scored(prediction.logits)}
    return found | ({"taps": taps} if trace else {})


def _vqfr1(name: str, model: Any, names: Mapping[str, str], image: Tensor, wanted: tuple[str, ...]) -> Arrays:
    with traced(model, names) as taps:
        found = model(image)
    own = _nearest(model.codebook.weight, found.latent)
    codes = model.codebook(found.latent).codes
    rounding = (found.latent + (codes - found.latent) - codes).abs().max()
    return {
        **own, "straight_through_rounding": rounding, **pictured("texture_dec", found.texture),
        **pictured("main_dec", found.image), "taps": taps,
    }  # fmt: skip


def _vqfr2(name: str, model: Any, names: Mapping[str, str], image: Tensor, wanted: tuple[str, ...]) -> Arrays:
    found: Arrays = {}
    trace = MODELS[name].traced in wanted
    with traced(model, names if trace else {}) as taps:
        prediction = model(image)
        for tag in wanted:
            fidelity = int(tag[-3:]) / 100 if tag[-3:].isdigit() else 0.0
            with paused(taps, unless=tag == MODELS[name].traced):
                answer = model.decode(prediction, image, fidelity=fidelity)
            found |= pictured(tag, answer)
            if tag == "texture_dec":
                nothing = model.decode(prediction, image, fidelity=torch.zeros(1))
                found["f000_equals_texture"] = np.array(torch.equal(nothing, answer))
    if prediction.logits is None:
        found |= _nearest(model.prior.codebook.weight, prediction.latent)
    else:
        found |= _scored(prediction.logits)
    return found | {"enc_feat": prediction.latent[0]} | ({"taps": taps} if trace else {})


_COMPUTED: Mapping[str, Callable[..., Arrays]] = {
    "autoencoder": _autoencoder, "restoreformer": _restoreformer, "codeformer": _codeformer, "vqfr1": _vqfr1,
    "vqfr2": _vqfr2,
}  # fmt: skip


def _kind(name: str) -> str:
    if name.endswith(("vqgan", "dictionary")):
        return "autoencoder"
    if name.startswith("vqfr"):
        return name.split("_")[1].replace("v", "vqfr")
    return "codeformer" if name == "codeformer" else "restoreformer"


def pictured(tag: str, image: Tensor) -> Arrays:
    """Gives what was stored of a picture."""
    wide = image[0].double()
    return {
        f"{tag}__ds8": F.avg_pool2d(wide, 8),
        f"{tag}__mean": wide.mean((1, 2)),
        f"{tag}__std": wide.std((1, 2), correction=0),
        f"{tag}__absmax": wide.abs().amax((1, 2)),
        f"{tag}__crop": image[0, :, 224:288, 224:288],
        f"{tag}__corner": image[0, :, 448:, 448:],
    }


def _scored(logits: Tensor) -> Arrays:
    flat = rearrange(logits, "1 h w k -> (h w) k")
    return {**_chosen(flat), "logits_every16": flat[::16]}


def _nearest(table: Tensor, latent: Tensor) -> Arrays:
    rows = rearrange(latent, "1 d h w -> (h w) d")
    squared = torch.cdist(rows.double(), table.double()).square()
    codes = rearrange(table[squared.argmin(-1)], "(h w) d -> 1 d h w", h=latent.shape[2])
    return {
        **_chosen(-squared),
        "z": latent[0],
        "z_conv": latent[0],
        "enc_feat": latent[0],
        "codebook_loss": codebook_loss(latent, codes),
        "perplexity": perplexity(usage(squared.argmin(-1), len(table))),
        "mean_distance": squared.mean(),
    }


def _chosen(scores: Tensor) -> Arrays:
    top = scores.topk(3).values
    order = torch.argsort(scores, dim=-1, descending=True, stable=True)
    return {
        "indices": order[:, 0],
        "runner_up": (order[:, 1], top[:, 1] - top[:, 2]),
        "margin": top[:, 0] - top[:, 1],
        "distinct_codes": np.array(len(order[:, 0].unique())),
    }


class Trace(dict[str, tuple[int, float, float]]):
    """Count of values, mean and deviation of what each of our modules gave, by the official module's path."""

    paused = False


@contextmanager
def paused(trace: Trace, *, unless: bool) -> Iterator[None]:
    """Does not record meanwhile, unless it should."""
    trace.paused = not unless
    yield
    trace.paused = False


@contextmanager
def traced(model: nn.Module, names: Mapping[str, str]) -> Iterator[Trace]:
    """Records what modules give; `names` says which of ours stands for which official path, likeliest first."""
    trace = Trace()

    def record(where: str) -> Callable[..., None]:
        def keep(_: nn.Module, __: Any, given: Any) -> None:
            if not trace.paused:
                value = (given if isinstance(given, Tensor) else given[0]).double()
                trace[where] = (value.numel(), float(value.mean()), float(value.std(correction=0)))

        return keep

    modules = dict(model.named_modules())
    handles = [modules[mine].register_forward_hook(record(mine)) for mine in set(names.values()) if mine in modules]
    yield trace
    for handle in handles:
        handle.remove()
    for theirs, mine in names.items():
        if mine in trace:
            trace[theirs] = trace[mine]


def paired(name: str, state: Mapping[str, Tensor], module: nn.Module) -> dict[str, str]:
    """Gives our module for each official path that has tensors.

    Of a list of steps that we do not call as one it is the last step.
    """
    mine = _tensor_names(name, state)
    counts: dict[str, int] = {}
    for tensor in mine.values():
        parts = tensor.split(".")
        for length in range(len(parts)):
            key = ".".join(parts[:length])
            counts[key] = counts.get(key, 0) + 1
    called = {path for path, inner in module.named_modules() if not _is_walked(path, inner)}
    pairs = {}
    paths = {".".join(key.split(".")[:length]) for key in mine for length in range(1, key.count(".") + 1)}
    for path in paths:
        inside = [key for key in mine if key.startswith(f"{path}.")]
        last = inside[-1]
        depth = last.removeprefix(f"{path}.").count(".") + 1
        parts = mine[last].split(".")
        whole = ".".join(parts[: len(parts) - depth])
        if whole in called and counts[whole] == len(inside):
            pairs[path] = whole
        elif depth > 1:
            pairs[path] = ".".join(parts[: len(parts) - depth + 1])
    return pairs


def _is_walked(path: str, module: nn.Module) -> bool:
    # levels and middles of the pair are gone through step by step, so nothing calls the list itself
    return isinstance(module, (nn.ModuleList, nn.ModuleDict)) or path.endswith((".steps", ".middle"))


def _tensor_names(name: str, state: Mapping[str, Tensor]) -> dict[str, str]:
    """Gives our name of each official tensor that is kept, by following tensors through the conversion."""
    family = MODELS[name].family
    layout = import_module(f"codeprior.weights.layouts.{family}")
    translated = getattr(layout, f"translate_{family}")(state, **MODELS[name].choices)
    ours = {id(value): mine for mine, value in translated.tensors.items()}
    return {key: ours[id(value)] for key, value in state.items() if id(value) in ours}
