"""A model made usable: faces in any of Python's picture types, in batches, or whole photographs."""

from codeprior.restorers.loading import load_restorer
from codeprior.restorers.restorer import Restorer, entropy

__all__ = ["Restorer", "entropy", "load_restorer"]
