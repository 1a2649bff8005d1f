"""The page of `codeprior ui`: what it does (`bench`), how it looks (`page`) and how it is served (`serving`)."""

from codeprior.commands._ui.bench import Bench, Limits, Opened, Result, Settings

__all__ = ["Bench", "Limits", "Opened", "Result", "Settings"]
