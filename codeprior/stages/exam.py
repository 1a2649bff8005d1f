"""How right the predicted codes of trained models are, on faces that none of them has seen."""

from statistics import mean

import torch

from codeprior.images import to_unit
from codeprior.losses import code_accuracy, code_loss
from codeprior.metrics import psnr
from codeprior.stages.codes import CodeStage
from codeprior.training import Source, Stream


class CodeExam:
    """Faces that no model has seen, each degraded once, the same way for all, with the teacher's codes.

    Args:
        stage: Its teacher and its damage are used for every model.
        held_out: Faces.
        seed: Of the damage.
    """

    @torch.no_grad()
    def __init__(self, stage: CodeStage, held_out: Source, *, seed: int = 2024):
        # a batch that divides the count, so that the mean over batches is the mean over faces
        batch = max(size for size in range(1, 17) if len(held_out) % size == 0)
        stream = Stream(held_out, batch=batch, seed=seed, flip=False)
        self.pairs = [stage.faces(stream.at(step)) for step in range(len(held_out) // batch)]
        self.targets = [stage.teacher.encode(pair.clean) for pair in self.pairs]

    @torch.no_grad()
    def judge(self, stage: CodeStage) -> dict[str, float]:
        """Gives the figures of a trained stage.

        Args:
            stage: Its model gives logits; its likeliest codes are decoded.

        Returns:
            accuracy: Share of the teacher's codes that are predicted, in [0, 1].
            code: Their cross-entropy, nats.
            psnr: Of the decoded faces against the clean ones, dB.
        """
        stage.model.eval()
        rows = []
        for pair, target in zip(self.pairs, self.targets, strict=True):
            logits = stage.model(pair.degraded)[0]
            restored = to_unit(stage.teacher.decode_indices(logits.argmax(-1)))
            rows.append(
                {"accuracy": float(code_accuracy(logits, target.indices)),
                 "code": float(code_loss(logits, target.indices)),
                 "psnr": float(psnr(restored, to_unit(pair.clean)).mean())}
            )  # fmt: skip
        return {name: mean(row[name] for row in rows) for name in rows[0]}
