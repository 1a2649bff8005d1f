"""Serving the page: on this machine alone unless asked otherwise, and with nothing fetched from anywhere else."""

import ipaddress
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from codeprior.extras import needed

_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
)
"""What a browser may load for the page: nothing from another host."""


def application(blocks: Any, *, host: str, megabytes: int, uploads: Path, most: int) -> Any:
    """Gives the server's application.

    Args:
        blocks: The page.
        host: The address it will listen at. At a loopback address requests under another name are refused, and those
            that a page of another site sends, so that none of them uses this one through the user's browser.
        megabytes: Largest file that is taken.
        uploads: Where the files of users lie.
        most: Megabytes that may lie there at once.

    Raises:
        ImportError: gradio is not installed.
    """
    gradio = needed("gradio", who="codeprior ui")
    from fastapi import FastAPI  # pyright: ignore[reportMissingImports]
    from starlette.middleware.trustedhost import TrustedHostMiddleware  # pyright: ignore[reportMissingImports]

    # looked at by gradio and by the hub's client that it brings along
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    if is_loopback(host):
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]", host])
        app.add_middleware(_OwnPageOnly)
    app.add_middleware(_NoMoreThan, folder=uploads, most=most * 2**20)
    app.add_middleware(_OwnHostOnly)
    # gradio asks whether a file was uploaded only for a page that was launched; a mounted one never is, and would read
    # any file of this machine and give it out
    blocks.has_launched = True
    plain = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return gradio.mount_gradio_app(
        app, blocks, path="/", server_name=host, ssr_mode=False, theme=plain, footer_links=[], pwa=False,
        mcp_server=False, enable_monitoring=False, max_file_size=f"{megabytes}mb",
    )  # fmt: skip


def is_loopback(host: str) -> bool:
    """Says whether only this machine reaches an address.

    Args:
        host: A name or an address.
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _OwnPageOnly:
    """Refuses what a browser sends for a page of another site: an upload needs nobody's leave to be sent."""

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", ()))
        origin = headers.get(b"origin")
        if origin is not None and origin.partition(b"://")[2] != headers.get(b"host"):
            await _refuse(send, 403, b"This page takes nothing from other sites.")
            return
        await self.app(scope, receive, send)


class _NoMoreThan:
    """Refuses uploads when much lies there already; what is older than an hour is removed by the page itself."""

    def __init__(self, app: Callable[..., Awaitable[None]], *, folder: Path, most: int):
        self.app, self.folder, self.most = app, folder, most

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].rstrip("/").endswith("/upload"):
            length = dict(scope["headers"]).get(b"content-length", b"")
            room = self.most - sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
            if not re.fullmatch(rb"[0-9]{1,15}", length) or int(length) > room:
                await _refuse(send, 413, b"Too much has been uploaded; try again in an hour.")
                return
        await self.app(scope, receive, send)


async def _refuse(send: Any, status: int, why: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": why})


class _OwnHostOnly:
    """Tells browsers to load nothing from other hosts."""

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"content-security-policy", _POLICY.encode())]
                headers += [(b"referrer-policy", b"no-referrer"), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, send_with_policy)
