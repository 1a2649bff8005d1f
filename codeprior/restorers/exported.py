"""A model in an ONNX file that `codeprior export` wrote, run by onnxruntime instead of PyTorch."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codeprior.extras import needed
from codeprior.families import Option
from codeprior.shapes import Image

_LARGEST = 8192  # pixels


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
        settings.log_severity_level = 3
        try:
            self.session = runtime.InferenceSession(str(path), settings, providers=[provider])
        except Exception as error:  # the runtime has an exception for each kind of damage, without a common kind
            raise ValueError(f"load: {path} is no ONNX file that can be run: {_first_line(error)}") from error
        self.metadata: dict[str, str] = dict(self.session.get_modelmeta().custom_metadata_map)
        self.size, self.scale, self.stride = (self._number(path, name) for name in ("size", "scale", "stride"))
        self.inputs = [given.name for given in self.session.get_inputs()]
        if self.inputs[0] != "image" or len(self.inputs) > 2:
            raise ValueError(f"load: {path} takes {', '.join(self.inputs)}; expected image, and at most a fidelity.")
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
        """
        given = {"image": image.detach().float().cpu().contiguous().numpy()}
        if fidelity is not None:
            given["fidelity"] = fidelity.detach().float().cpu().contiguous().numpy()
        return tuple(torch.from_numpy(answer).to(image.device) for answer in self.session.run(None, given))

    def _number(self, path: Path, name: str) -> int:
        text = self.metadata.get(f"codeprior.{name}", "")
        if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= _LARGEST):
            raise ValueError(
                f"load: {path} does not say its {name}, so codeprior export did not write it; export the model again."
            )
        return int(text)

    def _fidelity(self, path: Path) -> Option:
        try:
            said = json.loads(self.metadata["codeprior.fidelity"])
            default, low, high = (float(said[key]) for key in ("default", "low", "high"))
            if not all(map(math.isfinite, (default, low, high))):
                raise ValueError("a number is not finite")
            return Option(float, default, low, high, str(said.get("text", "")))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"load: {path} takes a fidelity and does not say which ones: {error}.") from error


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
