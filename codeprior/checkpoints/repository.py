"""Files of a repository of the Hugging Face hub, fetched by its own package into its own cache, with one kind of error.

The package names files in its cache after what the server says (ETag, commit, hashes of a listing). A server that says
`../../` there would have a file written elsewhere, so every answer is looked at before the package sees it.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from codeprior.extras import needed
from codeprior.files import printable

_REPOSITORY = re.compile(r"[0-9A-Za-z][\w.-]{0,95}/[0-9A-Za-z][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"[0-9A-Za-z_][\w./+-]{0,199}", re.ASCII)
_TAG = re.compile(r'(W/)?"?[0-9A-Za-z][\w.+=-]{0,199}"?', re.ASCII)
_NAMED = ("sha", "oid", "blobId", "sha256", "xetHash")
_MOST_LISTING, _MOST = 64 * 2**20, 16 * 2**30  # bytes
_ONE_AT_A_TIME = Lock()


class _Untrusted(Exception):
    """The hub said what it must not say."""


def is_repository(name: str) -> bool:
    """Says whether a text can be the name of a repository, `owner/name`.

    Args:
        name: Of anybody.
    """
    return _REPOSITORY.fullmatch(name) is not None and ".." not in name and "--" not in name


def fetch_repository(name: str, names: Sequence[str], *, revision: str | None = None, who: str) -> Path:
    """Gives a folder with files of a repository; what is in the hub's cache already needs no network.

    Args:
        name: The repository, `owner/name`.
        names: Of the files that are wanted, without folders; a repository may lack some.
        revision: Branch, tag or commit; None takes the main branch.
        who: What needs them, as the user knows it.

    Returns:
        A folder in the hub's cache, or one that `HF_HOME` names.

    Raises:
        FileNotFoundError: No repository has the name, or it has no such revision.
        ConnectionError: It is not in the cache and cannot be fetched, or the hub's answer cannot be believed.
        ValueError: The revision can be none.
        ImportError: The package of the hub is not installed.
    """
    if not is_repository(name):
        raise FileNotFoundError(
            f"{who}: there is no folder {printable(name)[:200]}; a repository of the hub is named owner/name."
        )
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision or revision.endswith("/")):
        raise ValueError(f"{who}: expected a branch, tag or commit, got {printable(revision)[:200]!r}.")
    hub: Any = needed("huggingface_hub", who=who)
    http: Any = needed("huggingface_hub.utils._http", who=who)
    try:
        with _believable_answers(http):
            return Path(hub.snapshot_download(name, revision=revision, allow_patterns=list(names)))
    except Exception as error:  # of the package, of its client, of what the server sent; they differ by version
        raise refused(error, name, revision=revision, who=who) from None


def refused(error: Exception, name: str, *, revision: str | None = None, who: str) -> OSError:
    """Gives one error for all that the hub's package, its client and a server's answers raise.

    Args:
        error: What was raised.
        name: The repository.
        revision: What was asked for.
        who: What was called, as the user knows it.
    """
    if isinstance(error, _Untrusted):
        return ConnectionError(f"{who}: what the hub answers for {name} is not believed: {printable(error)}.")
    kinds = {kind.__name__ for kind in type(error).__mro__}
    reason = f"{type(error).__name__}: {printable(' '.join(str(error).split()))[:300]}"
    if "RevisionNotFoundError" in kinds:
        return FileNotFoundError(f"{who}: the repository {name} has no revision {revision or 'main'}.")
    if kinds & {"RepositoryNotFoundError", "GatedRepoError"}:
        return FileNotFoundError(
            f"{who}: the hub gives no repository {name} to you: it is not there, private, or waits for your consent "
            "on its page; for the last two log in with `hf auth login`."
        )
    if "LocalEntryNotFoundError" in kinds or "OfflineModeIsEnabled" in kinds:
        return ConnectionError(
            f"{who}: {name} is no folder here, not in the hub's cache, and could not be fetched ({reason}). Give a "
            "folder that save_pretrained wrote, or call once with a network."
        )
    if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
        return ConnectionError(
            f"{who}: the hub does not let you use {name} ({reason}). Log in with `hf auth login`; to push, by a token "
            "that may write there."
        )
    return ConnectionError(f"{who}: the hub could not be used for {name} ({reason}).")


@contextlib.contextmanager
def _believable_answers(http: Any) -> Iterator[None]:
    """Looks at every answer that the hub's package gets in the block, also where the package makes a new client."""
    with _ONE_AT_A_TIME:
        # a program may have set its own, for its proxy or certificates
        before = getattr(http, "_GLOBAL_CLIENT_FACTORY", http.default_client_factory)

        def careful() -> Any:
            client = before()
            client.event_hooks = {**client.event_hooks, "response": [_check, *client.event_hooks.get("response", [])]}
            return client

        http.set_client_factory(careful)
        try:
            yield
        finally:
            http.set_client_factory(before)


def _check(answer: Any) -> None:
    """Refuses an answer that would name a file elsewhere, is without bound, or leads to where nothing is encrypted."""
    for header in ("etag", "x-linked-etag", "x-repo-commit"):
        value = answer.headers.get(header)
        if value is not None and not _TAG.fullmatch(value):
            raise _Untrusted(f"its {header} is {value[:80]!r}")
    for header in ("content-length", "x-linked-size"):
        value = answer.headers.get(header, "0")
        if not re.fullmatch("[0-9]{1,15}", value) or int(value) > _MOST:
            raise _Untrusted(f"its {header} is {value[:80]!r}")
    target = answer.next_request
    if target is not None and answer.url.scheme == "https" and target.url.scheme != "https":
        raise _Untrusted(f"it redirects to {target.url.scheme}://{target.url.host}, which is not encrypted")
    if "json" in answer.headers.get("content-type", "") and answer.is_success:
        if int(answer.headers.get("content-length", "0")) > _MOST_LISTING:
            raise _Untrusted("its listing has more than 64 MiB")
        answer.read()
        with contextlib.suppress(ValueError):  # is no JSON: the package says so
            _check_listing(answer.json())


def _check_listing(listing: Any) -> None:
    entries = listing if isinstance(listing, list) else [listing]
    for entry in entries:
        found = entry if isinstance(entry, dict) else {}
        large: Any = found.get("lfs")
        for part in (found, large if isinstance(large, dict) else {}):
            for value in map(part.get, _NAMED):
                if value is not None and not (isinstance(value, str) and _TAG.fullmatch(value)):
                    raise _Untrusted(f"an identifier is {str(value)[:80]!r}")
