"""`codeprior ui`: a page in the browser that restores photographs, served from this machine."""

import argparse

from codeprior.commands._printing import say
from codeprior.extras import needed

HELP = "Serve a page that restores photographs, to browsers on this machine."
_USAGE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of this command.

    Args:
        parser: The command's own parser.
    """
    parser.add_argument(
        "--weights", nargs="+", default=["small"], metavar="NAME|FILE",
        help="weights that one can choose on the page: embedded ones by name, and files (default: small)",
    )  # fmt: skip
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, reached from here alone)"
    )
    parser.add_argument("--port", type=int, default=7860, help="port to listen at (default: 7860)")
    parser.add_argument("--device", default="cpu", help="where the network runs: cpu (default), cuda, mps")
    parser.add_argument("--megabytes", type=int, default=40, help="largest file that is taken (default: 40)")
    parser.add_argument("--megapixels", type=int, default=40, help="largest photograph (default: 40)")
    parser.add_argument("--photographs", type=int, default=100, help="most that are restored in one go (default: 100)")
    parser.add_argument(
        "--seconds", type=float, default=900, help="time after which none of them is begun any more (default: 900)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serves until it is interrupted.

    Args:
        arguments: As parsed.

    Returns:
        0 after an interrupt, 2 where the page cannot be served.
    """
    try:
        needed("gradio", who="codeprior ui")
        from codeprior.commands._ui.bench import Bench, Limits
        from codeprior.commands._ui.page import page
        from codeprior.commands._ui.serving import application, is_loopback
        from codeprior.devices import usable_device

        usable_device("--device", arguments.device)
        limits = Limits(
            megabytes=arguments.megabytes, megapixels=arguments.megapixels, photographs=arguments.photographs,
            seconds=arguments.seconds,
        )  # fmt: skip
        bench = Bench(arguments.weights, device=arguments.device, limits=limits)
        most = arguments.megabytes * arguments.photographs
        app = application(
            page(bench), host=arguments.host, megabytes=arguments.megabytes, uploads=bench.uploads, most=most
        )
    except (FileNotFoundError, ImportError, ValueError) as error:
        say(f"codeprior ui: {error}", error=True)
        return _USAGE
    if not is_loopback(arguments.host):
        say(f"codeprior ui: every machine that reaches {arguments.host} can use this page; it asks nobody who they are")
    say(f"codeprior ui: http://{arguments.host}:{arguments.port}, until Ctrl+C")
    import uvicorn  # pyright: ignore[reportMissingImports]

    try:
        uvicorn.run(app, host=arguments.host, port=arguments.port, log_level="warning")
    except SystemExit as ending:  # uvicorn has said why it cannot listen
        return _USAGE if ending.code else 0
    return 0
