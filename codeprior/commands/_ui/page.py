"""How the page looks, and which of its parts calls what of the bench; made with gradio, which the extra `ui` brings."""

import os
from pathlib import Path
from typing import Any

from codeprior.commands._ui.bench import Bench, Opened, Result, Settings, clicked
from codeprior.extras import needed
from codeprior.files import ONLY_READ, PICTURES, printable

_ABOUT = (
    "Where a face shows little, the model invents: eyes, teeth, skin and age can be those of another person. "
    "Do not identify anybody by a restored face. Photographs stay on the machine that serves this page."
)


def page(bench: Bench) -> Any:
    """Gives the page as gradio's `Blocks`.

    Args:
        bench: What it works with.

    Raises:
        ImportError: gradio is not installed.
    """
    gradio = needed("gradio", who="codeprior ui")
    # else in the one folder of that name for all programs and users of the machine, where photographs would stay
    os.environ["GRADIO_TEMP_DIR"] = str(bench.uploads)
    # analytics: gradio would ask its makers for the newest version
    with gradio.Blocks(title="codeprior", analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
        gradio.Markdown(f"# Restore photographs\n{_ABOUT}")
        opened = gradio.State(None)
        with gradio.Row():
            with gradio.Column(scale=1, min_width=300):
                files = gradio.File(
                    label="Photographs", file_count="multiple", elem_id="files",
                    file_types=sorted({*PICTURES, *ONLY_READ}),
                )  # fmt: skip
                which = gradio.Dropdown(label="Photograph", choices=[], visible=False, elem_id="which")
                faces = gradio.Image(
                    label="Faces: click on one to leave it out or to take it in", interactive=False, format="webp",
                    elem_id="faces", buttons=[],
                )  # fmt: skip
                weights = gradio.Dropdown(label="Family and weights", choices=list(bench.names), elem_id="weights")
                weights.value = next(iter(bench.names))
                automatic = gradio.Checkbox(True, label="Fidelity: chosen for each face by what it still holds")
                fidelity = gradio.Slider(
                    0, 1, 0.5, step=0.05, label="Fidelity", info="0 follows the model, 1 the photograph", visible=False
                )
                strength = gradio.Slider(
                    0, 1, 1, step=0.05, label="Strength", info="0 the face as it was, 1 as restored", elem_id="strength"
                )
                always = gradio.Checkbox(False, label="Also restore faces that are sharper than the model's answer")
                grain = gradio.Checkbox(True, label="Give mended faces the photograph's grain back")
                with gradio.Row():
                    one = gradio.Button("Restore", variant="primary", elem_id="restore")
                    many = gradio.Button("Restore all, as ZIP", elem_id="restore-all")
            with gradio.Column(scale=2, min_width=300):
                slider = gradio.ImageSlider(
                    label="Before and after: drag the line", type="numpy", format="webp", interactive=False,
                    elem_id="slider", max_height=900,
                )  # fmt: skip
                said = gradio.Markdown(elem_id="said")
                download = gradio.DownloadButton("Download", interactive=False, elem_id="download")
                with gradio.Accordion("What is not certain", open=False, elem_id="maps"), gradio.Row():
                    guessed = gradio.Image(
                        label="Where the model guessed: dark is sure, pale is guessed", interactive=False,
                        format="webp", elem_id="uncertainty", buttons=["download", "fullscreen"],
                    )  # fmt: skip
                    damage = gradio.Image(
                        label="What the faces went through: the paler the frame, the more detail was lost",
                        interactive=False, format="webp", elem_id="damage", buttons=["download", "fullscreen"],
                    )  # fmt: skip
        chosen = [weights, automatic, fidelity, strength, always, grain]
        results = [slider, said, download, guessed, damage]

        def take(paths: list[str] | None) -> Any:
            paths = paths or []
            names = [(Path(path).name, path) for path in paths]
            menu = gradio.Dropdown(choices=names, value=paths[0] if paths else None, visible=len(paths) > 1)
            return menu, *look(paths[0] if paths else None)

        def look(path: str | None) -> Any:
            cleared = (None, "", gradio.DownloadButton(interactive=False), None, None)
            if path is None:
                return None, None, *cleared
            found = _asked(gradio, bench.open, Path(path))
            faces_said = f"{len(found.faces)} faces found" if len(found.faces) != 1 else "1 face found"
            return found, bench.shown(found), None, faces_said, *cleared[2:]

        def click(found: Opened, event: gradio.SelectData) -> Any:  # pyright: ignore[reportInvalidTypeForm]
            found = clicked(found, *event.index)
            return found, bench.shown(found)

        def restore(found: Opened | None, *values: Any) -> Any:
            if found is None:
                raise gradio.Error("Choose a photograph first.", print_exception=False)
            done: Result = _asked(gradio, bench.restore, found, settings(*values))
            button = gradio.DownloadButton(value=str(done.path), interactive=True)
            return (done.before, done.after), _listed(done.said), button, done.uncertainty, done.damage

        def restore_all(paths: list[str] | None, *values: Any, progress: Any = gradio.Progress()) -> Any:  # noqa: B008
            if not paths:
                raise gradio.Error("Choose photographs first.", print_exception=False)
            archive, outcomes = _asked(
                gradio, bench.restore_all, list(map(Path, paths)), settings(*values),
                said=lambda done, name: progress((done, len(paths)), desc=name),
            )  # fmt: skip
            lines = tuple(f"{name}: {what}" for name, what in outcomes)
            return None, _listed(lines), gradio.DownloadButton(value=str(archive), interactive=True), None, None

        # one job at a time, in the order in which they come: two users share the processor, not the memory
        turn = {"concurrency_limit": 1, "concurrency_id": "network"}
        files.change(take, [files], [which, opened, faces, *results], **turn)
        which.input(look, [which], [opened, faces, *results], **turn)
        faces.select(click, [opened], [opened, faces], **turn)
        automatic.change(lambda chosen: gradio.Slider(visible=not chosen), [automatic], [fidelity], queue=False)
        one.click(restore, [opened, *chosen], results, **turn)
        many.click(restore_all, [files, *chosen], results, **turn)
    blocks.queue(max_size=64)
    return blocks


def settings(
    weights: str, automatic: bool, fidelity: float, strength: float, always: bool, grain: bool = True
) -> Settings:
    """Gives what the parts of the page say.

    Args:
        weights: Name of the weights.
        automatic: Whether fidelity is chosen for each face.
        fidelity: Else, [0, 1].
        strength: [0, 1].
        always: Restore every face.
        grain: Give mended faces the photograph's grain back.
    """
    return Settings(weights, "auto" if automatic else float(fidelity), float(strength), bool(always), bool(grain))


def _asked(gradio: Any, function: Any, *arguments: Any, **more: Any) -> Any:
    """Calls the bench; what it refuses is shown to the user, and the page goes on."""
    try:
        return function(*arguments, **more)
    except (OSError, ValueError) as error:
        raise gradio.Error(printable(error), print_exception=False) from error


def _listed(lines: tuple[str, ...]) -> str:
    """Gives lines as a list in which names are no markup."""
    return "\n".join(f"- {_plain(line)}" for line in lines)


def _plain(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]()#+-.!<>|~" else letter for letter in printable(text))
