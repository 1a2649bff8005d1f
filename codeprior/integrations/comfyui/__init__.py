"""Nodes for ComfyUI: load weights, restore the faces of images, damage images on purpose.

ComfyUI loads a folder of `custom_nodes` that gives `NODE_CLASS_MAPPINGS`. This package is such a folder: make a link to
it there, or a folder whose `__init__.py` is `from codeprior.integrations.comfyui import *`.
"""

from codeprior.integrations.comfyui.nodes import DegradeImages, LoadRestorer, RestoreFaces

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "DegradeImages", "LoadRestorer", "RestoreFaces"]

NODE_CLASS_MAPPINGS = {
    "CodepriorLoadRestorer": LoadRestorer,
    "CodepriorRestoreFaces": RestoreFaces,
    "CodepriorDegradeImages": DegradeImages,
}
"""What ComfyUI adds to its menu, by the names that its workflows keep."""
NODE_DISPLAY_NAME_MAPPINGS = {
    "CodepriorLoadRestorer": "Load face restorer (codeprior)",
    "CodepriorRestoreFaces": "Restore faces (codeprior)",
    "CodepriorDegradeImages": "Degrade images (codeprior)",
}
