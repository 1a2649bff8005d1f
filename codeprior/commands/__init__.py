"""The commands of `codeprior`, one file each; `codeprior/__main__.py` imports the one that is asked for."""
