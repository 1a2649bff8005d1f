"""A model in an ONNX file that `codeprior export` wrote, run by onnxruntime instead of PyTorch.

An ONNX file is a program: what it takes, gives and says of itself is checked, and a call ends after a time. Its memory
has no bound.
"""

import contextlib
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codeprior.extras import needed
from codeprior.families import Option
from codeprior.shapes import Image

_LARGEST = 8192  # pixels
_MOST_TEXT = 2**20  # letters that a file may say of itself
_SECONDS = 600.0  # for each face; restorers of today need a few
_QUIET = 4  # only what ends the process is logged: the runtime would print names of the file as they are


class OnnxModel(nn.Module):
    """A restoration model that onnxruntime runs; sizes and what it takes are read from the file.

    Args:
        path: An ONNX file that `codeprior export` wrote; tensors that it keeps in a second file lie beside it.
        device: `cpu`, or `cuda` where the onnxruntime that is installed has it.

    Attributes:
        metadata: What the file says of itself: family, sizes, ranges, licence.
        option_types: The fidelity, where the file takes it.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: onnxruntime is not installed.
        ValueError: It is no ONNX file, or not one of ours; or the device is not there.

    Note:
        An ONNX file is a program. A call that takes more than ten minutes a face is ended; memory has no bound, so run
        files of people whom you trust.
    """

    def __init__(self, path: str | Path, *, device: str | torch.device = "cpu"):
        super().__init__()
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"load: {path} does not exist.")
        runtime: Any = needed("onnxruntime", who=f"load: {path.name}")
        kind = torch.device(device).type
        provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(kind)
        if provider not in runtime.get_available_providers():
            raise ValueError(f"load: {path}: the onnxruntime that is installed does not run on {kind}; take cpu.")
        settings = runtime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        settings.log_severity_level = _QUIET
        try:
            # what is constant would be computed here, where no time and no memory bounds it
            self.session = runtime.InferenceSession(
                str(path), settings, providers=[provider], disabled_optimizers=["ConstantFolding"]
            )
        except Exception as error:  # the runtime has an exception for each kind of damage, without a common kind
            raise ValueError(f"load: {path} is no ONNX file that can be run: {_first_line(error)}") from error
        self._runtime = runtime
        self.metadata: dict[str, str] = dict(self.session.get_modelmeta().custom_metadata_map)
        if (length := sum(len(key) + len(text) for key, text in self.metadata.items())) > _MOST_TEXT:
            raise ValueError(f"load: {path} says {length:,} letters of itself, more than the {_MOST_TEXT:,} accepted.")
        self.size, self.scale, self.stride = (self._number(path, name) for name in ("size", "scale", "stride"))
        if self.size * self.scale > _LARGEST:
            raise ValueError(f"load: {path} gives faces of more than {_LARGEST} px a side, its size times its scale.")
        self.inputs = [given.name for given in self.session.get_inputs()]
        self._check_interface(path)
        self.taps = True if "fidelity" in self.inputs else None  # what a restorer asks before it gives a fidelity
        self.option_types = {"fidelity": self._fidelity(path)} if self.taps else {}

    def restore(self, degraded: Image, *, fidelity: float | Tensor | None = None) -> Image:
        """Gives restored faces, signed, not clamped, for degraded ones `b 3 size size` of the same kind.

        Args:
            degraded: `b 3 size size`, signed.
            fidelity: In [0, 1]: a number, or a tensor with one for each face; None takes the model's own.

        Raises:
            ValueError: The faces have another size, or the fidelity is out of range.
        """
        if degraded.ndim != 4 or degraded.shape[1:] != (3, self.size, self.size):
            raise ValueError(
                f"OnnxModel: expected faces (b, 3, {self.size}, {self.size}), got {tuple(degraded.shape)}; the size "
                "was fixed when the model was exported."
            )
        if not self.taps:
            return self.run(degraded, None)[0]
        option = self.option_types["fidelity"]
        chosen: Any = option.check("fidelity", option.default if fidelity is None else fidelity)
        return self.run(degraded, torch.as_tensor(chosen, dtype=torch.float32).expand(len(degraded)))[0]

    def run(self, image: Image, fidelity: Tensor | None) -> tuple[Tensor, ...]:
        """Gives everything that the file gives: the restored faces, and where there are codes, their indices.

        Args:
            image: `b 3 size size`, signed.
            fidelity: `(b,)`, where the file takes it.

        Raises:
            ValueError: The program fails, takes too long, or gives other faces than it says.
        """
        given = {"image": image.detach().float().cpu().contiguous().numpy()}
        if fidelity is not None:
            given["fidelity"] = fidelity.detach().float().cpu().contiguous().numpy()
        with self._limited(len(image)) as settings:
            answers = self.session.run(None, given, settings)
        wanted = (len(image), 3, self.size * self.scale, self.size * self.scale)
        if answers[0].shape != wanted:
            raise ValueError(f"OnnxModel: the file gives faces {answers[0].shape}, and says that they are {wanted}.")
        return tuple(torch.from_numpy(answer).to(image.device) for answer in answers)

    @contextlib.contextmanager
    def _limited(self, faces: int) -> Iterator[Any]:
        """Gives the settings of a call that ends after its time; what the runtime raises becomes one kind of error."""
        settings = self._runtime.RunOptions()
        settings.log_severity_level = _QUIET
        seconds = _SECONDS * max(1, faces)
        timer = threading.Timer(seconds, setattr, (settings, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            yield settings
        except Exception as error:  # as above, the runtime has no common kind
            late = f"took more than {seconds:g} s and was ended"
            reason = late if settings.terminate else f"cannot be run: {_first_line(error)}"
            raise ValueError(f"OnnxModel: the program of the file {reason}.") from error
        finally:
            timer.cancel()

    def _check_interface(self, path: Path) -> None:
        """Checks that the program takes and gives what `codeprior export` writes."""
        takes = {given.name: (given.type, given.shape) for given in self.session.get_inputs()}
        gives = [(given.type, given.shape) for given in self.session.get_outputs()]
        kind, shape = takes.get("image", ("", []))
        # a side of no fixed length is a word or None
        fits = len(shape) == 4 and all(
            not isinstance(side, int) or side == wanted
            for side, wanted in zip(shape[1:], (3, self.size, self.size), strict=True)
        )
        if not fits or kind != "tensor(float)" or takes.keys() - {"image", "fidelity"} or self.inputs[0] != "image":
            said = ", ".join(f"{name} {kind} {shape}" for name, (kind, shape) in takes.items())[:200] or "nothing"
            raise ValueError(
                f"load: {path} takes {said}; expected image, b 3 {self.size} {self.size}, and at most a fidelity."
            )
        kinds = [kind for kind, _ in gives]
        if kinds not in (["tensor(float)"], ["tensor(float)", "tensor(int64)"]):
            raise ValueError(f"load: {path} gives {', '.join(kinds)[:200]}; expected faces, and at most their codes.")

    def _number(self, path: Path, name: str) -> int:
        text = self.metadata.get(f"codeprior.{name}", "")
        if not (text.isascii() and text.isdigit() and len(text) < 9 and 0 < int(text) <= _LARGEST):
            raise ValueError(
                f"load: {path} does not say its {name}, so codeprior export did not write it; export the model again."
            )
        return int(text)

    def _fidelity(self, path: Path) -> Option:
        try:
            said = json.loads(self.metadata["codeprior.fidelity"])
            default, low, high = (float(said[key]) for key in ("default", "low", "high"))
            if not all(map(math.isfinite, (default, low, high))) or not low <= default <= high:
                raise ValueError("a number is not finite or out of their range")
            return Option(float, default, low, high, str(said.get("text", ""))[:200])
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            reason = _first_line(error)
            raise ValueError(f"load: {path} takes a fidelity and does not say which ones: {reason}.") from error


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
