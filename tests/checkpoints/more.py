"""Checkpoints of a second review: work without end, the older format, names that collide."""

import pickle
import struct
from collections.abc import Iterator
from pathlib import Path

from tests.checkpoints.hostile import calls, confusions
from tests.checkpoints.opcodes import archive, honest, state, storage, tensor, text

_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_SYSTEM = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2}}, 2)


def legacy(
    path: Path,
    content: bytes,
    *,
    keys: tuple[str, ...] = ("0",),
    data: tuple[bytes, ...] = (honest(),),
    system: bytes = _SYSTEM,
    counts: tuple[int, ...] = (4,),
) -> Path:
    """Writes a file in the format from before torch 1.6."""
    parts = [_MAGIC, pickle.dumps(1001, 2), system, content, pickle.dumps(list(keys), 2)]
    parts += [struct.pack("<q", count) + one for count, one in zip(counts, data, strict=True)]
    path.write_bytes(b"".join(parts))
    return path


def work() -> Iterator[tuple[str, bytes]]:
    """Pickles whose few opcodes copy or compare far more than they are long."""
    x, long = text("x"), text("n" * 3_000_000)
    yield "call of a long name", state(x, b"]" + long + long + b"\x93q\1" + b"(N" + b"h\1)R0" * 20_000 + b"1")
    items = b"(" + b"K\1" * 100_000
    for name, made in (("sizes", b"ctorch\nSize\n"), ("pairs", b"ccollections\nOrderedDict\n")):
        yield f"copies of {name}", state(x, items + b"lq\1" + (made + b"h\1\x85R0") * 2_000)
    entries = b"}q\1(" + b"".join(b"M" + struct.pack("<H", number) + b"N" for number in range(60_000)) + b"u"
    yield "copies of a dictionary", state(x, entries + b"ccollections\nOrderedDict\nh\1\x85R0" * 3_000)
    # equal texts that are two objects: every comparison goes to their end
    yield "long equal keys", state(x, long + b"q\1" + long + b"q\2" + b"0}" + b"h\1Nsh\2Ns" * 100_000)
    yield "long shapes", state(x, b"(" + b"K\1" * 50_000 + b"tq\1" + tensor()[:0] + _long_shapes(300))


def _long_shapes(count: int) -> bytes:
    one = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage() + b"K\0h\1h\1tR0"
    return one * count + b"N"


def names() -> Iterator[tuple[str, bytes]]:
    """State dicts of which safetensors could hold a part only."""
    yield "flat and nested", b"\x80\x02}(" + text("x.w") + tensor() + text("x") + b"}(" + text("w") + tensor() + b"uu."
    yield (
        "twice nested",
        state(text("x"), b"}(" + text("a.b") + tensor() + text("a") + b"}(" + text("b") + tensor() + b"uu"),
    )
    yield "number and text", b"\x80\x02}(" + text("0") + tensor() + b"K\0" + tensor() + b"u."
    yield "named metadata", b"\x80\x02}(" + text("__metadata__") + tensor() + b"u."
    for kind in ("bits8", "complex32", "quint8", "qint8", "qint32", "quint4x2", "bits16", "no_such"):
        rest = b"K\0" + b"K\4\x85K\1\x85\x89}" + f"ctorch\n{kind}\n".encode() + b"t"
        v3 = b"ctorch._utils\n_rebuild_tensor_v3\n(" + storage() + rest + b"R"
        yield f"type {kind}", b"\x80\x02}(" + text("a") + v3 + b"u."


def older(folder: Path) -> Iterator[Path]:
    """The calls and confusions of the corpus, and lies of its own, in the format from before torch 1.6."""

    def at(name: str) -> Path:
        return folder / f"older-{name.replace('/', '_')}.ckpt"

    for name, content in [*calls(), *confusions()]:
        yield legacy(at(name), content)
    good = state()
    yield legacy(at("count short"), good, counts=(3,))
    yield legacy(at("count long"), good, counts=(2**40,))
    yield legacy(at("count negative"), good, counts=(-1,))
    yield legacy(at("data short"), good, data=(honest()[:-1],))
    yield legacy(at("data long"), good, data=(honest() + b"x",))
    yield legacy(at("keys absent"), good, keys=(), data=(), counts=())
    yield legacy(at("keys strange"), good, keys=("9",))
    yield legacy(at("keys twice"), good, keys=("0", "0"), data=(honest(),) * 2, counts=(4, 4))
    yield legacy(at("keys more"), good, keys=("0", "1"), data=(honest(),) * 2, counts=(4, 4))
    for name, system in (("big", {"little_endian": False}), ("none", {}), ("odd", [1])):
        yield legacy(at(f"system {name}"), good, system=pickle.dumps(system, 2))
    for name, made in (("protocol", pickle.dumps(1002, 2)), ("protocol text", pickle.dumps("1001", 2))):
        path = legacy(at(name), good)
        path.write_bytes(path.read_bytes().replace(pickle.dumps(1001, 2), made, 1))
        yield path
    part = b"\x80\x02}(" + text("a") + tensor(of=storage()[:-2] + b"(" + text("v") + b"K\0K\2tt" + b"Q") + b"u."
    yield legacy(at("view of a storage"), part)


def more(folder: Path) -> Iterator[Path]:
    """All of them."""
    for name, content in [*work(), *names()]:
        path = folder / f"more-{name}.ckpt"
        archive(path, content)
        yield path
    yield from older(folder)
