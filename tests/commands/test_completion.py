"""`codeprior completion`: the script of each shell, and what the shell then completes."""

import shutil
import subprocess
from importlib import import_module

import pytest

from codeprior.__main__ import main
from codeprior.commands._words import command_names

pytest.importorskip("shtab")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_takes_its_script_and_it_knows_every_command(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in command_names())
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=60)


def test_bash_completes_commands_options_and_files(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    (tmp_path / "photograph.jpg").touch()
    ask = """
    source ./script
    function=$(complete -p codeprior | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    for words in "codeprior rest" "codeprior restore --fid" "codeprior restore photo"; do
      COMP_WORDS=($words) COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )) COMPREPLY=()
      $function codeprior "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
      echo "${COMPREPLY[@]}"
    done
    """
    asked = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert asked.stdout.split() == ["restore", "--fidelity", "photograph.jpg"], asked.stderr


@pytest.mark.parametrize("name", command_names())
def test_the_list_of_commands_reads_as_sentences(name):
    text = import_module(f"codeprior.commands.{name}").HELP
    assert text[0].isupper() and text.endswith(".")
