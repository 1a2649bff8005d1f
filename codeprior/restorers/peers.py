"""Restorers of other people, as rows of our tables: their networks come from spandrel, their weights from you.

spandrel knows the network of GFP-GAN, CodeFormer and RestoreFormer among many and builds it from the tensors alone. A
method that it does not know, such as PSFRGAN or DR2, is run by its own code, and its pictures are measured as a folder;
the guide of evaluation says how.
"""

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codeprior.checkpoints import read_checkpoint
from codeprior.extras import needed
from codeprior.families import State
from codeprior.restorers.restorer import Restorer
from codeprior.shapes import Image
from codeprior.weights import remember_origin
from codeprior.weights.bounds import no_larger_than

PEERS = "spandrel"
"""What stands before the colon where a command is asked for such a restorer: `GFP-GAN=spandrel:GFPGANv1.4.pth`."""


class SpandrelModel(nn.Module):
    """A face restorer of spandrel behind this library's interface.

    Args:
        descriptor: What spandrel made of a state dict, an `ImageModelDescriptor` whose `purpose` is `FaceSR`.
        size: Side of the faces, pixels; the least that the network takes where nothing is given.

    Raises:
        ValueError: It restores no faces, or another number of channels.

    Note:
        spandrel hands pixels on as they come and cuts the answer to [0, 1]; these networks take and give signed ones.
        Networks that draw new noise at each call use the noise that their file stores, so that tables can be repeated.
    """

    def __init__(self, descriptor: Any, *, size: int | None = None):
        super().__init__()
        if descriptor.purpose != "FaceSR" or descriptor.input_channels != 3 or descriptor.output_channels != 3:
            raise ValueError(
                f"SpandrelModel: expected a restorer of faces in colour, got {descriptor.architecture.name} for "
                f"{descriptor.purpose}; enlargers of any picture are not measured here."
            )
        self.network: Any = descriptor.model.eval().requires_grad_(False)
        self.size = size or max(descriptor.size_requirements.minimum, 1)
        self.scale, self.stride = int(descriptor.scale), self.size
        self.architecture = str(descriptor.architecture.name)
        stored = "randomize_noise" in inspect.signature(self.network.forward).parameters
        self._options = {"randomize_noise": False} if stored else {}

    @torch.no_grad()
    def restore(self, degraded: Image) -> Image:
        """Gives restored faces, signed, not clamped.

        Args:
            degraded: `b 3 size size`, signed.

        Raises:
            ValueError: The faces have another size.
        """
        if degraded.shape[-2:] != (self.size, self.size):
            height, width = degraded.shape[-2:]
            raise ValueError(
                f"SpandrelModel: {self.architecture} takes {self.size}×{self.size} faces, got {width}×{height}; resize "
                "them."
            )
        answer = self.network(degraded, **self._options)
        # some give features or logits beside the picture
        return answer[0] if isinstance(answer, (tuple, list)) else answer


def load_peer(weights: str | Path, *, device: str | torch.device = "cpu", batch: int = 8) -> Restorer:
    """Gives the restorer of a published checkpoint that spandrel knows, such as `GFPGANv1.4.pth`.

    Args:
        weights: The file; it is read as any foreign checkpoint is, without running anything in it.
        device: Where it runs.
        batch: Faces that go through it at once.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: spandrel is not installed.
        ValueError: spandrel does not know its layout, or it restores no faces.
    """
    read = read_checkpoint(weights)
    model = peer_of(read.tensors, who="load_peer", what=str(weights))
    remember_origin(model, {"source": Path(weights).name, "source_sha256": read.sha256})
    return Restorer(model, device=device, batch=batch)


def peer_of(state: State, *, who: str = "peer_of", what: str = "these tensors") -> SpandrelModel:
    """Gives the model that spandrel makes of tensors.

    Args:
        state: Tensors by the names of whoever wrote them.
        who: What asks for it, for the text of an error.
        what: Where they come from, for the same.

    Raises:
        ImportError: spandrel is not installed.
        ValueError: spandrel does not know their layout, they make no model, or restore no faces.
    """
    spandrel = needed("spandrel", who="--recipe spandrel")
    try:
        with no_larger_than(state):
            descriptor = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(state))
    except Exception as error:  # sizes come from the tensors, and whatever made-up ones provoke is the file's fault
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{who}: spandrel {spandrel.__version__} makes no model of {what}: {reason}") from error
    return SpandrelModel(descriptor)
