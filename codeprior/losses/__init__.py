"""Losses: functions of tensors; a class only where there are weights to hold."""

from codeprior._renamed import moved
from codeprior.losses.adaptive import (
    LossAtImage,
    adaptive_weight,
    cut_adaptive_weight,
    last_layer_gradients,
    loss_at_image,
    watch_input,
    weight_of_gradients,
)
from codeprior.losses.adversarial import (
    feature_matching_loss,
    generator_adversarial_loss,
    hinge_discriminator_loss,
    logistic_discriminator_loss,
    logistic_generator_loss,
)
from codeprior.losses.association import association_loss
from codeprior.losses.codebook import codebook_loss
from codeprior.losses.codes import code_accuracy, code_loss
from codeprior.losses.entropy import code_entropy_loss
from codeprior.losses.features import FeatureNetwork, MobileNetFeatures, TimmFeatures, VGGFeatures, feature_network
from codeprior.losses.identity import IdentityLoss
from codeprior.losses.parts import FACE_PARTS, Part, crop_parts
from codeprior.losses.perceptual import PerceptualLoss
from codeprior.losses.pixels import chroma_loss, hatch_loss, pyramid_loss
from codeprior.losses.smoothness import PathPenalty, path_length_penalty, path_lengths, r1_penalty
from codeprior.losses.style import gram, style_loss

__all__ = [
    "FACE_PARTS",
    "FeatureNetwork",
    "IdentityLoss",
    "LossAtImage",
    "MobileNetFeatures",
    "Part",
    "PathPenalty",
    "PerceptualLoss",
    "TimmFeatures",
    "VGGFeatures",
    "adaptive_weight",
    "association_loss",
    "chroma_loss",
    "code_accuracy",
    "code_entropy_loss",
    "code_loss",
    "codebook_loss",
    "crop_parts",
    "cut_adaptive_weight",
    "feature_matching_loss",
    "feature_network",
    "generator_adversarial_loss",
    "gram",
    "hatch_loss",
    "hinge_discriminator_loss",
    "last_layer_gradients",
    "logistic_discriminator_loss",
    "logistic_generator_loss",
    "loss_at_image",
    "path_length_penalty",
    "path_lengths",
    "pyramid_loss",
    "r1_penalty",
    "style_loss",
    "watch_input",
    "weight_of_gradients",
]

__getattr__ = moved(
    __name__, __name__, ("last_layer_pulls", "weight_of_pulls"),
    renamed={"last_layer_pulls": "last_layer_gradients", "weight_of_pulls": "weight_of_gradients"},
)  # fmt: skip
