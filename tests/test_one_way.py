"""One way to open an output, to load a pickle and to print, in the whole library."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_BARRED = {
    "write_text", "write_bytes", "mkstemp", "NamedTemporaryFile", "save_file", "savefig", "savez", "savez_compressed",
    "tofile", "rmtree", "copyfile",
}  # fmt: skip
# what draws or packs into memory goes on to codeprior.files; into a path it would open that itself
_INTO_MEMORY = {"encoded", "content", "stream"}
_MAY = {
    "files.py",
    # a compiler writes its own output, into a folder of its own
    "kernels/_compile.py",
    # moves a whole download under its name, and checkpoints under theirs
    "checkpoints/download.py", "training/checkpoint.py", "training/manifest.py",
}  # fmt: skip


def _openings(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        dotted = ast.unparse(node.func)
        owner, _, name = dotted.rpartition(".")
        words = [
            word.value for word in ast.walk(node) if isinstance(word, ast.Constant) and isinstance(word.value, str)
        ]
        flags = {"O_CREAT", "O_WRONLY", "O_RDWR"} & {
            word.attr for word in ast.walk(node) if isinstance(word, ast.Attribute)
        }
        modes = any(set(word) & set("wax+") and set(word) <= set("rwaxbt+") for word in words)
        opens = name == "open" and owner != "tarfile" and (flags or modes)
        # an encoder that is given a file which codeprior.files opened
        opens = opens and not (owner.endswith("av") and [ast.unparse(word) for word in node.args[:1]] == ["file"])
        moves = owner == "os" and name in {"replace", "rename", "link", "unlink", "remove", "removedirs"}
        into = [ast.unparse(word) for word in node.args[:1]]
        if name in ("print_png", "savez", "savefig") and into and into[0] in _INTO_MEMORY:
            continue
        if name in _BARRED or name == "print_png" or opens or moves or dotted == "torch.save":
            found.append(f"{path.relative_to(ROOT)}:{node.lineno} {name}")
    return found


def test_there_is_one_way_to_open_an_output():
    library = ROOT / "codeprior"
    paths = [path for path in library.rglob("*.py") if str(path.relative_to(library)) not in _MAY]
    paths += (ROOT / "examples").rglob("*.py")
    assert not [line for path in paths for line in _openings(path)], "go through codeprior.files"


def test_no_pickle_is_loaded_outside_the_room_for_it():
    library = ROOT / "codeprior"
    loads = {path.relative_to(library).parts[0] for path in library.rglob("*.py") if "torch.load(" in path.read_text()}
    assert loads <= {"checkpoints"}


def test_commands_print_through_one_function():
    commands = ROOT / "codeprior" / "commands"
    calls = [
        f"{path.relative_to(commands)}:{node.lineno}"
        for path in commands.rglob("*.py")
        if path.name != "_printing.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not calls, "use codeprior.commands._printing.say"


def test_commands_take_nothing_private_from_one_another():
    files = [path for top in ("codeprior", "examples") for path in (ROOT / top).rglob("*.py")]
    taken = [
        f"{path.relative_to(ROOT)}:{node.lineno} {alias.name}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("codeprior.commands.")
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert not taken, "what several commands need stands in codeprior/commands/_*.py"
