"""A plain install has neither numba nor OpenCV: restoring and the blocks do without, and the rest names the extra."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from codeprior import extras

ROOT = Path(__file__).resolve().parents[1]
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
_WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Missing(PathFinder):
    names = {"cv2", "numba", "llvmlite", "simplejpeg", "skimage", "scipy", "torchvision", "timm", "matplotlib"}

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in cls.names else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Missing
"""


def _run(code: str, folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", _WITHOUT + code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("module", extras._EXTRAS)
def test_every_named_extra_brings_its_package(module):
    distribution, extra = extras._EXTRAS[module]
    words = _PROJECT["optional-dependencies"][extra] if extra else _PROJECT["dependencies"]
    assert distribution in {Requirement(word).name for word in words}


def test_restore_and_the_demo_work_without_the_packages_of_degradations(tmp_path):
    portrait = ROOT / "codeprior" / "commands" / "astronaut.webp"
    code = f"""
from codeprior.__main__ import main
from PIL import Image
Image.open({str(portrait)!r}).save("in.jpg")
assert main(["restore", "in.jpg", "out.png", "--quiet", "--always", "--report", "report.jsonl"]) == 0
assert main(["demo", "--out", "demo"]) == 0
assert not Missing.names & set(sys.modules)
"""
    done = _run(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"status": "restored"' in (tmp_path / "report.jsonl").read_text()
    assert (tmp_path / "demo" / "demo.png").exists()


def test_the_blocks_work_without_them(tmp_path):
    code = """
import torch
import codeprior as cp
encoder = cp.VQGANEncoder(8, channels=32, multipliers=(1, 1), blocks=1)
decoder = cp.VQGANDecoder(8, channels=32, multipliers=(1, 1), blocks=1)
latent = encoder(torch.zeros(1, 3, 16, 16))
quantized = cp.Codebook(32, 8)(latent)
assert decoder(quantized.values).shape == (1, 3, 16, 16)
predict = cp.CodePredictor(8, 32, grid=(8, 8), width=16, heads=2, layers=1, hidden=16)
cp.code_loss(predict(latent), quantized.indices).backward()
op, generator = cp.degradations.preset("daefr"), torch.Generator().manual_seed(0)
image = torch.rand(3, 512, 512)
assert op.apply(image, op.sample(image, generator), impl="torch").shape == image.shape
try:
    op(image, generator=generator)
except ImportError as error:
    print(error)
"""
    done = _run(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pip install 'codeprior[degradations]'; apply(…, impl='torch') does without." in done.stdout


def test_degrade_names_the_extra_once(tmp_path):
    code = """
from codeprior.__main__ import main
from PIL import Image
Image.new("RGB", (64, 64)).save("a.png")
raise SystemExit(main(["degrade", "a.png", "out"]))
"""
    done = _run(code, tmp_path)
    assert done.returncode == 2
    assert "codeprior degrade: " in done.stderr and "pip install 'codeprior[degradations]'" in done.stderr


def test_deep_colours_name_what_would_read_them(tmp_path):
    code = """
import numpy as np
from codeprior.photos import read, write
write("a.png", np.full((8, 8, 3), 40000, np.uint16))
print(read("a.png", keep_depth=True).notes)
"""
    done = _run(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "16 bits a channel were read as 8; OpenCV reads them, which is not installed: pip install" in done.stdout
