"""A model made usable: faces in any of Python's picture types, in batches, or whole photographs."""

from codeprior.restorers.exported import OnnxModel
from codeprior.restorers.loading import load_model, load_restorer
from codeprior.restorers.peers import PEERS, SpandrelModel, load_peer, peer_of
from codeprior.restorers.predicted import CodeRestorer, Decoding, Prediction
from codeprior.restorers.restorer import Restorer, entropy

__all__ = [
    "PEERS",
    "CodeRestorer",
    "Decoding",
    "OnnxModel",
    "Prediction",
    "Restorer",
    "SpandrelModel",
    "entropy",
    "load_model",
    "load_peer",
    "load_restorer",
    "peer_of",
]
