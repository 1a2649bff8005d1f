"""What a restorer's taps are trained by: eyes and mouth count for themselves where the settings name them."""

import torch
from torch import Tensor, nn

from codeprior.stages import FidelitySettings, TapsStage, loss_weights


class _Restorer(nn.Module):
    """Says what it was made with, whatever it is asked."""

    def __init__(self, image: Tensor):
        super().__init__()
        self.image = image
        self.taps = nn.Conv2d(1, 1, 1)

    def predict(self, degraded: Tensor) -> tuple[Tensor, Tensor]:
        return degraded, degraded

    def decode(self, prediction: Tensor, read: Tensor, *, fidelity: float) -> Tensor:
        return self.image


class _Difference(nn.Module):
    def forward(self, image: Tensor, clean: Tensor) -> Tensor:
        return (image - clean).square().mean()


def _losses(image: Tensor, clean: Tensor, **weights: float) -> dict[str, Tensor]:
    model = _Restorer(image)
    settings = FidelitySettings(weights=loss_weights(**weights), average=None, degradation="clean")
    return TapsStage(settings, model=model, taps=model.taps, size=32, perceptual=_Difference()).losses(clean, clean)


def test_eyes_and_mouth_count_for_themselves_and_only_where_they_are_named():
    clean = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    # at 32 pixels the left eye is a square of 6 around (12, 15)
    eye, cheek = clean.clone(), clean.clone()
    eye[..., 13:16, 11:14] += 0.5
    cheek[..., 25:28, 2:5] += 0.5
    weights = {"pyramid": 1.0, "parts": 1.0, "parts_perceptual": 0.5}
    at_eye, at_cheek = _losses(eye, clean, **weights), _losses(cheek, clean, **weights)
    assert at_cheek["parts"] == 0 == at_cheek["parts_perceptual"]
    torch.testing.assert_close(at_cheek["total"], at_cheek["pyramid"])
    # an eye is a twenty-sixth of the picture and one of three parts
    assert at_eye["parts"] > 5 * at_eye["pyramid"]
    total = at_eye["pyramid"] + at_eye["parts"] + 0.5 * at_eye["parts_perceptual"]
    torch.testing.assert_close(at_eye["total"], total)
    assert at_eye["parts_perceptual"] > 0
    assert set(_losses(eye, clean, pyramid=1.0)) == {"pyramid", "total"}
