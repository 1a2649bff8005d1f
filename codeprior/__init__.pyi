"""The front door, as type checkers see it; tests/test_typed.py compares it with the table of `__init__.py`."""

from . import checkpoints as checkpoints
from . import codebooks as codebooks
from . import decoders as decoders
from . import degradations as degradations
from . import discriminators as discriminators
from . import distributed as distributed
from . import encoders as encoders
from . import estimators as estimators
from . import evaluation as evaluation
from . import families as families
from . import fusion as fusion
from . import images as images
from . import kernels as kernels
from . import layers as layers
from . import losses as losses
from . import metrics as metrics
from . import photos as photos
from . import predictors as predictors
from . import prior as prior
from . import restorers as restorers
from . import shapes as shapes
from . import training as training
from . import weights as weights
from .codebooks import Codebook as Codebook
from .codebooks import MovingAverageCodebook as MovingAverageCodebook
from .codebooks import Quantized as Quantized
from .decoders import VQGANDecoder as VQGANDecoder
from .discriminators import PatchGAN as PatchGAN
from .encoders import TimmEncoder as TimmEncoder
from .encoders import VQGANEncoder as VQGANEncoder
from .fusion import CrossAttentionFusion as CrossAttentionFusion
from .images import to_signed as to_signed
from .images import to_unit as to_unit
from .losses import PerceptualLoss as PerceptualLoss
from .losses import association_loss as association_loss
from .losses import code_loss as code_loss
from .losses import codebook_loss as codebook_loss
from .predictors import CodePredictor as CodePredictor
from .prior import VQGAN as VQGAN
from .prior import CodePrior as CodePrior
from .restorers import Restorer as Restorer
from .restorers import load_restorer as load_restorer
from .weights import load as load
from .weights import save as save

__version__: str
