"""Checkpoints that try something: calls in every carrier, lies about tensors, bombs, confusions and damage.

Every payload, if it ran, would create the file named in `MARKER`. The corpus is made here, nothing of it is shipped.
"""

import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from tests.checkpoints.opcodes import archive, honest, number, numbers, state, storage, tensor, text

MARKER = Path(os.environ.get("TMPDIR", "/tmp")) / f"codeprior-payload-{os.getpid()}"

_CALLABLES = (
    ("os", "system"), ("posix", "system"), ("nt", "system"), ("subprocess", "call"), ("subprocess", "Popen"),
    ("subprocess", "run"), ("subprocess", "check_output"), ("builtins", "exec"), ("builtins", "eval"),
    ("builtins", "compile"), ("builtins", "open"), ("builtins", "getattr"), ("builtins", "__import__"),
    ("__builtin__", "eval"), ("__builtin__", "execfile"), ("importlib", "import_module"), ("runpy", "run_path"),
    ("runpy", "_run_code"), ("shutil", "rmtree"), ("os", "popen"), ("os", "execv"), ("os", "remove"),
    ("pty", "spawn"), ("socket", "create_connection"), ("urllib.request", "urlopen"), ("webbrowser", "open"),
    ("pickle", "loads"), ("_pickle", "loads"), ("marshal", "loads"), ("types", "FunctionType"), ("types", "CodeType"),
    ("codecs", "decode"), ("code", "interact"), ("pdb", "run"), ("timeit", "timeit"), ("cProfile", "run"),
    ("doctest", "debug_script"), ("torch", "load"), ("torch.hub", "load"), ("torch.storage", "_load_from_bytes"),
    ("torch.jit", "load"), ("torch._dynamo", "compile"), ("numpy.testing._private.utils", "runstring"),
    ("numpy", "load"), ("operator", "attrgetter"), ("operator", "methodcaller"), ("functools", "partial"),
    ("builtins", "map"), ("torch._utils", "_rebuild_qtensor"), ("torch._tensor", "_rebuild_from_type_v2"),
    ("site", "main"), ("pathlib", "Path"), ("ctypes", "CDLL"), ("multiprocessing.util", "spawnv_passfds"),
)  # fmt: skip


def calls() -> Iterator[tuple[str, bytes]]:
    """Pickles that would call something, by each opcode that can."""
    command = text(f"touch {MARKER}")
    for module, name in _CALLABLES:
        plain = f"c{module}\n{name}\n".encode()
        stacked = text(module) + text(name) + b"\x93"
        yield f"reduce {module}.{name}", state(text("x"), plain + b"(" + command + b"tR")
        yield f"stacked {module}.{name}", state(text("x"), stacked + b"(" + command + b"tR")
        yield f"first {module}.{name}", b"\x80\x02" + plain + b"(" + command + b"tR0" + state()[2:]
    for module, name in _CALLABLES[:12]:
        plain = f"c{module}\n{name}\n".encode()
        yield f"obj {module}.{name}", state(text("x"), b"(" + plain + command + b"o")
        yield f"inst {module}.{name}", state(text("x"), b"(" + command + f"i{module}\n{name}\n".encode())
        yield f"newobj {module}.{name}", state(text("x"), plain + b"(" + command + b"t\x81")
        yield (
            f"newobj-ex {module}.{name}",
            b"\x80\x04}(" + text("a") + tensor() + text("x") + plain + b"(" + command + b"t}\x92u.",
        )
        yield f"key {module}.{name}", state(plain + b"(" + command + b"tR", text("x"))
        yield f"whole {module}.{name}", b"\x80\x02" + plain + b"(" + command + b"tR."
    system = b"cos\nsystem\n"
    yield "build", state(text("x"), b"ccodeprior\nX\n)\x81}" + text("__setstate__") + system + b"sb")
    yield "build on tensor", state(text("x"), tensor() + b"}" + text("__class__") + system + b"sb")
    yield "append on call", state(text("x"), system + b"(" + command + b"tR(" + command + b"e")
    yield "hook", state(text("x"), tensor()[:-4] + b"\x89(" + system + b"ltR")
    yield "storage class", state(text("x"), tensor(of=storage(kind=system)))
    yield "tensor on call", state(text("x"), tensor(of=system + b"(" + command + b"tR"))
    yield "size of call", state(text("x"), b"ctorch\nSize\n(" + system + b"(" + command + b"tRtR")
    yield "container of call", state(text("x"), b"ccollections\nOrderedDict\n(" + system + b"(" + command + b"tRtR")
    yield "default factory", state(text("x"), b"ccollections\ndefaultdict\n(" + system + b"tR")
    yield "persistent text", b"\x80\x00(dPos.system\n."
    yield "extension", b"\x80\x02\x82\x01."
    yield "outside buffer", b"\x80\x05\x97."


def lies() -> Iterator[tuple[str, bytes, dict[str, bytes] | None]]:
    """Tensors that are not what they say."""
    x = text("x")
    wrong = {
        "too long": tensor((5,), (1,)), "too wide": tensor((2, 2), (4, 1)), "offset": tensor(offset=1),
        "far offset": tensor(offset=2**62), "negative offset": tensor(offset=-1), "negative size": tensor((-2, 2)),
        "negative stride": tensor((2, 2), (-2, 1)), "expanded": tensor((2**40,), (0,)),
        "huge": tensor((2**62, 2**62), (1, 1)), "huge and empty": tensor((2**62, 0), (1, 1)),
        "beyond int64": tensor((2**80,), (0,)), "mismatch": tensor((2, 2), (1,)),
        "seventy": tensor((1,) * 70, (1,) * 70), "no storage": tensor(of=text("0")),
        "missing": tensor(of=storage("7")), "other count": tensor(of=storage(elements=5)),
        "negative count": tensor(of=storage(elements=-4)), "huge count": tensor(of=storage(elements=2**60)),
        "odd class": tensor(of=storage(kind=b"ctorch\nQInt8Storage\n")),
        "two classes": tensor((2,), (1,), of=storage(elements=2, kind=b"ctorch\nDoubleStorage\n")),
        "key up": tensor(of=storage("../data.pkl")), "key absolute": tensor(of=storage("/etc/passwd")),
        "key empty": tensor(of=storage("")), "float size": b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage()
        + number(0) + b"(G?\xf0\0\0\0\0\0\0t(" + number(1) + b"t\x89}tR",
        "text size": b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage() + number(0) + text("12") * 2 + b"\x89}tR",
        "few arguments": b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage() + b"tR",
        "no tuple": b"ctorch._utils\n_rebuild_tensor_v2\n]R",
        "parameter of text": b"ctorch._utils\n_rebuild_parameter\n(" + text("w") + b"\x89}tR",
        "odd type": b"ctorch._utils\n_rebuild_tensor_v3\n("
        + storage(kind=b"ctorch.storage\nUntypedStorage\n", elements=16) + number(0) + numbers((2, 2))
        + numbers((2, 1)) + b"\x89}ctorch\nload\ntR",
    }  # fmt: skip
    for name, opcodes in wrong.items():
        yield f"tensor {name}", state(x, opcodes), None
    yield "data short", state(), {"0": honest()[:-1]}
    yield "data long", state(), {"0": honest() + b"x"}
    yield "data absent", state(), {}


def bombs() -> Iterator[tuple[str, bytes]]:
    """Pickles that would take memory or time without end."""
    x = text("x")
    grown = b")" + b"".join(b"q" + bytes([i]) + b"(h" + bytes([i]) + b"h" + bytes([i]) + b"t" for i in range(60))
    yield "tuple doubled", state(x, grown)
    halves = [(b"h" + bytes([i - 1]), b"}q" + bytes([i])) for i in range(1, 40)]
    nested = b"".join(new + b"(" + text("l") + old + text("r") + old + b"u" for old, new in halves)
    yield "dictionaries doubled", state(x, b"}q\0" + nested)
    yield "list of itself", state(x, b"]q\0h\0a")
    yield "dictionary of itself", b"\x80\x02}q\0" + text("a") + b"h\0s."
    yield "deep", state(x, b"]" * 200_000 + b"a" * 199_999)
    yield "deep tuples", state(x, b")" + b"\x85" * 500_000)
    yield "tuple as key", state(b")" + b"\x85" * 100_000, x)
    yield "opcodes", state(x, b"N0" * 3_000_000 + b"N")
    yield "marks", state(x, b"(" * 500_000 + b"1" * 499_999 + b"t")
    yield "bytearray", b"\x80\x05\x96" + struct.pack("<Q", 32 * 2**30) + b"x."
    yield "long text", b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x."
    yield "long number", state(x, b"\x8b" + struct.pack("<I", 2_000_000) + b"\x7f" * 2_000_000)
    yield "digits", b"\x80\x00I" + b"9" * 1_000_000 + b"\n."
    yield "colliding keys", state(x, b"}(" + b"".join(number(i * (2**61 - 1)) + b"N" for i in range(20_000)) + b"u")
    yield "many entries", state(x, b"](" + b"N" * 400_000 + b"e")
    yield "long names", state(text("n" * 100_000), b"}(" + b"".join(text(f"{i:04}") + b"N" for i in range(5000)) + b"u")
    yield (
        "shared storage",
        b"\x80\x02}("
        + text("a")
        + storage(elements=2**22)
        + b"q\0"
        + b"0" * 1
        + b"".join(text(str(i)) + tensor((2**22,), (1,), of=b"h\0") for i in range(2000))
        + b"u.",
    )
    yield (
        "shared tensors",
        b"\x80\x02}("
        + text("a")
        + tensor((2**20,), (1,), of=storage(elements=2**20))
        + b"q\0"
        + b"".join(text(str(i)) + b"h\0" for i in range(5000))
        + b"u.",
    )


def confusions() -> Iterator[tuple[str, bytes]]:
    """Pickles that are no checkpoint, or not one only."""
    yield "empty", b""
    yield "only stop", b"."
    yield "two values", b"\x80\x02NN."
    yield "mark at the end", b"\x80\x02(."
    yield "behind the end", state() + b"cos\nsystem\n(" + text("true") + b"tR."
    yield "no end", state()[:-1]
    yield "a list", b"\x80\x02]."
    yield "a number", b"\x80\x02K\1."
    yield "no tensors", b"\x80\x02}" + text("epoch") + b"K\1s."
    yield "key without value", b"\x80\x02}(" + text("a") + b"u."
    yield "keys of a list", b"\x80\x02]" + text("a") + b"Ns."
    yield "append to a dictionary", b"\x80\x02}Na."
    yield "unknown memo", b"\x80\x02h\x07."
    yield "no mark", b"\x80\x02t."
    yield "unknown opcode", b"\x80\x02\xfe."
    yield "protocol 9", b"\x80\x09N."
    yield "name of numbers", b"\x80\x04K\1K\2\x93."
    yield "pops too much", b"\x80\x02000."


def containers(folder: Path) -> Iterator[Path]:
    """Files around the pickle that are no plain archive."""

    def at(name: str) -> Path:
        return folder / f"container-{name}.ckpt"

    archive(at("deflated"), state(), method=zipfile.ZIP_DEFLATED)
    archive(at("bomb"), state(), data={"0": honest(), "1": bytes(200_000_000)}, method=zipfile.ZIP_DEFLATED)
    for name, extra in (("torchscript", "constants.pkl"), ("code", "code/__torch__.py"), ("second", "sub/data.pkl")):
        archive(at(name), state())
        with zipfile.ZipFile(at(name), "a") as file:
            file.writestr(f"archive/{extra}", b"N.")
    archive(at("big-endian"), state())
    with zipfile.ZipFile(at("big-endian"), "w") as file:
        file.writestr("archive/data.pkl", state())
        file.writestr("archive/byteorder", "big")
        file.writestr("archive/data/0", honest())
    with zipfile.ZipFile(at("twice"), "w") as file:
        file.writestr("archive/data.pkl", state())
        file.writestr("archive/data/0", honest())
    whole = at("twice").read_bytes()
    at("twice").write_bytes(whole.replace(b"archive/data/0", b"archive/data.pk"[:14]))
    with zipfile.ZipFile(at("no-pickle"), "w") as file:
        file.writestr("archive/version", "3")
    with zipfile.ZipFile(at("many"), "w") as file:
        for index in range(30_000):
            file.writestr(f"archive/data/{index}", b"")
    at("empty").write_bytes(b"")
    at("pk").write_bytes(b"PK\3\4")
    at("pickle").write_bytes(b"\x80\x02cos\nsystem\n(" + text(f"touch {MARKER}") + b"tR.")
    at("text").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    at("elf").write_bytes(b"\x7fELF" + bytes(100))
    torch.save({"a": torch.zeros(2)}, at("legacy"), _use_new_zipfile_serialization=False)
    with tarfile.open(at("tar"), "w") as file:
        info = tarfile.TarInfo("pickle")
        info.size = 2
        file.addfile(info, io.BytesIO(b"N."))
    with at("sparse").open("wb") as file:
        archive(folder / "plain.tmp", state())
        file.write(b"PK\3\4")
        file.truncate(12 * 2**30)
        file.seek(0, 2)
        file.write((folder / "plain.tmp").read_bytes())
    (folder / "plain.tmp").unlink()
    directory = at("directory")
    archive(directory, state())
    content = bytearray(directory.read_bytes())
    place = content.rindex(b"PK\5\6")
    content[place + 8 : place + 12] = b"\xff\xff\xff\xff"
    directory.write_bytes(content)
    yield from sorted(folder.glob("container-*"))


def damaged(folder: Path, *, truncations: int = 24, flips: int = 60) -> Iterator[Path]:
    """A real checkpoint cut short and with single bits flipped."""
    whole = folder / "whole.tmp"
    torch.save({"state_dict": real_state(), "epoch": 3}, whole)
    content = whole.read_bytes()
    whole.unlink()
    rng = np.random.default_rng(0)
    for index in range(truncations):
        path = folder / f"cut-{index}.ckpt"
        path.write_bytes(content[: len(content) * index // truncations])
        yield path
    for index in range(flips):
        place = int(rng.integers(8 * len(content)))
        path = folder / f"flip-{index}.ckpt"
        path.write_bytes(
            content[: place // 8] + bytes([content[place // 8] ^ 1 << place % 8]) + content[place // 8 + 1 :]
        )
        yield path


def real_state() -> dict[str, torch.Tensor]:
    """A small state dict with shared, strided, empty and odd-typed tensors."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 6, generator=generator)
    return {
        "weight": weight, "tied": weight, "row": weight[1], "turned": weight.t(), "every-other": weight[::2, 1:],
        "half": weight.half(), "bfloat": weight.bfloat16(), "double": weight.double(), "steps": torch.tensor(7),
        "mask": weight > 0, "bytes": torch.arange(5, dtype=torch.uint8), "empty": torch.empty(0, 3),
        "scalar": torch.tensor(2.5), "parameter": torch.nn.Parameter(weight[:2]),
        "complex": torch.complex(weight, weight),
    }  # fmt: skip


def corpus(folder: Path) -> Iterator[Path]:
    """Writes all of it; gives the paths."""
    index = 0
    for name, content in [*calls(), *bombs(), *confusions()]:
        path = folder / f"{index:03}-{name.replace('/', '_')[:60]}.ckpt"
        archive(
            path,
            content,
            data={"0": honest()} if "shared" not in name else {"0": bytes(2**24 if "storage" in name else 2**22)},
        )
        index += 1
        yield path
    for name, content, data in lies():
        path = folder / f"{index:03}-{name}.ckpt"
        archive(path, content, data=data)
        index += 1
        yield path
    yield from containers(folder)
    yield from damaged(folder)
