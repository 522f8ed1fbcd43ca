"""Downloads: one process at a time, whole or not at all, resumed where the bytes can be checked.

What does not work is a `DownloadError`, whose message is the reason alone: who asked for the file
knows what the user can do about it. What takes time (a download, another process that has begun it)
is logged as a warning, which Python prints on stderr unless a program decides otherwise.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.client import HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from backbones.errors import BackboneError
from data.errors import HeliographError
from data.files import (
    make_folder,
    open_regular,
    sha256_file,
    sync_folder,
    write_error,
)
from data.lock import BusyError, Lock

TIMEOUT_SECONDS = 30.0  # without a single byte
MOST_FAILURES = 5  # of one download, since it last got ahead by a piece
PIECE_BYTES = 1 << 20
REPEAT_SECONDS = 30.0  # between two lines about the same download or wait
POLL_SECONDS = 0.2  # between two looks at a lock that another process has
ABANDONED_SECONDS = 3600.0  # half a file of another program that did not grow for so long is dead

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG)
_LOG = logging.getLogger(__name__)
_WEB_PAGES = ("text/html", "application/xhtml+xml")
WEB_PAGE = "a web page (HTML) came in its place, perhaps the login page of a network"


class DownloadError(BackboneError):
    """A download that failed; its message is the reason."""


class HubFile(NamedTuple):
    """A file of the Hugging Face hub."""

    repository: str
    revision: str
    name: str


def log(text: str) -> None:
    """Tell the user what is going on, in one line."""
    _LOG.warning("%s", text)


def is_web_page(head: bytes) -> bool:
    """Return whether a file that begins so is HTML.

    >>> is_web_page(b"<!DOCTYPE html><title>Welcome to our Wi-Fi</title>")
    True
    """
    return (
        head.lstrip(b"\xef\xbb\xbf \t\r\n")[:14].lower().startswith((b"<!doctype html", b"<html"))
    )


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Hold the lock of what is to become `path`; wait for it while another process has it.

    Raises:
        WriteError: Nothing can be written there.
    """
    lock_path = path.with_name(f".{path.name}.lock")
    told = -REPEAT_SECONDS
    while True:
        try:
            lock = Lock(lock_path, path)
            break
        except BusyError as error:
            if time.monotonic() - told >= REPEAT_SECONDS:
                log(f"waiting: {error}")
                told = time.monotonic()
            time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        lock.release()


def fetch(url: str, path: Path, *, size_bytes: int = 0, sha256: str = "") -> None:
    """Download a file; it is at `path` when it is whole. Call it under `one_at_a_time(path)`.

    With a hash, a download that was cut or killed is resumed where it ended, by a later process
    too; without one, half a file is never used again.

    Args:
        url: where it is.
        path: where it goes; what is there is replaced.
        size_bytes: how long it must be; 0 if unknown.
        sha256: its hash; empty if unknown.

    Raises:
        DownloadError: it cannot be had, or is another file.
        WriteError: it cannot be written.
    """
    make_folder(path.parent)
    _remove_abandoned(path.parent, f"{path.name}.*.partial")
    partial = path.with_name(f".{path.name}.partial")
    try:
        if not sha256:
            partial.unlink(missing_ok=True)
        begun = partial.stat().st_size if partial.is_file() else 0
        _log_start(url, path, size_bytes, begun)
        found = _receive(url, partial, size_bytes, sha256)
        if begun and found != sha256:  # it was begun with other bytes
            partial.unlink()
            found = _receive(url, partial, size_bytes, sha256)
        if found != sha256:
            partial.unlink()
            raise DownloadError(f"its sha256 is {found}, not the published one")
        os.replace(partial, path)
        sync_folder(path.parent)
    except DownloadError:
        if not sha256:
            partial.unlink(missing_ok=True)
        raise
    except OSError as error:
        raise write_error(path, error) from error


def _receive(url: str, partial: Path, size_bytes: int, sha256: str) -> str:
    """Complete a partial file; return its hash if one is known."""
    with open_regular(partial, "ab") as file:
        _Transfer(url, file, size_bytes=size_bytes, is_checked=bool(sha256)).run()
    return sha256_file(partial) if sha256 else ""


def _log_start(url: str, path: Path, size_bytes: int, begun: int) -> None:
    size = f", {size_bytes / 1e6:,.0f} MB" if size_bytes else ""
    again = f", from byte {begun:,} on" if begun else ""
    log(f"downloading {path.name}{size} from {urlsplit(url).netloc}{again}")


def _remove_abandoned(folder: Path, pattern: str) -> None:
    """Remove what torch.hub or huggingface_hub left half when they were killed."""
    for partial in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if time.time() - partial.stat().st_mtime > ABANDONED_SECONDS:
                partial.unlink()


class _TransientError(Exception):
    """A failure after which the rest of a file may still come."""


class _Transfer:
    """The bytes of a URL that are on their way into a partial file.

    They go on where the file ends if the server can do that and the bytes are of one version: by
    the server's tag, or because the whole is checked against a hash.
    """

    def __init__(self, url: str, file: BinaryIO, *, size_bytes: int, is_checked: bool) -> None:
        self.url, self.file = url, file
        self.size_bytes, self.is_checked = size_bytes, is_checked
        self.tag = ""  # of the version that the server began to send

    def run(self) -> None:
        """Ask for what is missing until it is there.

        Raises:
            DownloadError: it cannot be had.
            OSError: it cannot be written.
        """
        failures = 0
        while True:
            begun = self._length()
            try:
                if not self.size_bytes or begun != self.size_bytes:
                    self._ask(begun)
                os.fsync(self.file.fileno())
                return
            except _TransientError as error:
                failures = 1 if self._length() - begun >= PIECE_BYTES else failures + 1
                if failures == MOST_FAILURES:
                    raise DownloadError(str(error)) from error
            time.sleep(POLL_SECONDS * 2**failures)

    def _length(self) -> int:
        return os.fstat(self.file.fileno()).st_size

    def _ask(self, begun: int) -> None:
        headers = {"User-Agent": "heliograph", "Accept-Encoding": "identity"}
        if begun:
            headers["Range"] = f"bytes={begun}-"
        try:
            answer = urlopen(Request(self.url, headers=headers), timeout=TIMEOUT_SECONDS)
        except HTTPError as error:
            if error.code == 416:  # the partial file is longer than the whole one
                os.ftruncate(self.file.fileno(), 0)
            reason = f"the server answers {error.code} {error.reason}"
            again = error.code in (408, 416, 429) or error.code >= 500
            raise (_TransientError if again else DownloadError)(reason) from error
        except URLError as error:
            raise _no_connection(error.reason) from error
        except (OSError, HTTPException) as error:
            raise _TransientError(_words(error)) from error
        except ValueError as error:  # no URL
            raise DownloadError(str(error)) from error
        with answer:
            self._append(answer, begun)

    def _append(self, answer: HTTPResponse, begun: int) -> None:
        """Append the body of an answer to the file, or begin anew with it."""
        headers: Message[Any, Any] = answer.headers
        if headers.get_content_type() in _WEB_PAGES:
            raise DownloadError(WEB_PAGE)
        tag = headers.get("ETag", "")
        same = tag == self.tag if self.tag else self.is_checked
        place = headers.get("Content-Range", "")
        if begun and not (answer.status == 206 and same and place.startswith(f"bytes {begun}-")):
            os.ftruncate(self.file.fileno(), 0)
            begun = 0
            if answer.status == 206:
                self.tag = ""
                raise _TransientError("the server goes on with another file")
        self.tag = tag
        length = int(headers["Content-Length"]) if "Content-Length" in headers else None
        piece = _read(answer)
        if not begun and is_web_page(piece):
            raise DownloadError(WEB_PAGE)
        if self.size_bytes and length is not None and begun + length != self.size_bytes:
            raise DownloadError(f"the server has a file of {begun + length:,} bytes")
        received, told = 0, time.monotonic()
        while piece:
            _write(self.file, piece)
            received += len(piece)
            piece = _read(answer)
            if time.monotonic() - told >= REPEAT_SECONDS:
                of = f" of {(begun + length) / 1e6:,.0f}" if length else ""
                log(f"downloading: {(begun + received) / 1e6:,.0f}{of} MB")
                told = time.monotonic()
        if length is not None and received < length:
            raise _TransientError("the connection was cut")


def _no_connection(reason: object) -> Exception:
    """Return the error about a connection that was not made; it may be worth another try."""
    timed_out = isinstance(reason, TimeoutError)
    reset = isinstance(reason, ConnectionError) and not isinstance(reason, ConnectionRefusedError)
    words = _words(reason) if isinstance(reason, Exception) else str(reason)
    return _TransientError(words) if timed_out or reset else DownloadError(words)


def _read(answer: HTTPResponse) -> bytes:
    """Return the next piece of an answer; a failure of the network is none of the disk."""
    try:
        return answer.read(PIECE_BYTES)
    except (OSError, HTTPException) as error:
        raise _TransientError(_words(error)) from error


def _write(file: BinaryIO, piece: bytes) -> None:
    """Write all of a piece to an unbuffered file."""
    left = memoryview(piece)
    while left:
        left = left[file.write(left) :]


def _words(error: Exception) -> str:
    """Return the reason of a failed connection."""
    if isinstance(error, IncompleteRead | ConnectionResetError):
        return "the connection was cut"
    if isinstance(error, TimeoutError | socket.timeout):
        return f"no answer for {TIMEOUT_SECONDS:.0f} seconds"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.partition("\n")[0] or type(error).__name__


def endpoint() -> str:
    """Return the address of the Hugging Face hub, or of the mirror that `HF_ENDPOINT` names."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def is_offline() -> bool:
    """Return whether `HF_HUB_OFFLINE` forbids requests to the Hugging Face hub."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def fetch_from_hub(file: HubFile, *, size_bytes: int = 0, again: bool = False) -> Path:
    """Return the path of a file of the Hugging Face hub in its cache, downloaded if it is missing.

    Token, mirror, proxies and offline mode are those of huggingface_hub, which downloads it.

    Args:
        file: which.
        size_bytes: what is said about its size; 0 if unknown.
        again: whether to replace the one in the cache.

    Raises:
        DownloadError: it cannot be had.
        WriteError: the cache cannot be written.
    """
    from huggingface_hub import constants, hf_hub_download

    if is_offline():
        raise DownloadError("HF_HUB_OFFLINE is set")
    server = endpoint()
    if urlsplit(server).scheme not in ("http", "https"):
        raise DownloadError(f"HF_ENDPOINT is {server}, not an address such as https://...")
    folder = Path(constants.HF_HUB_CACHE) / f"models--{file.repository.replace('/', '--')}"
    with one_at_a_time(folder / file.name.replace("/", "--")):
        _remove_abandoned(folder / "blobs", "*.incomplete")
        _log_start(f"{server}/", Path(file.repository, file.name), size_bytes, 0)
        require_connection(server)
        try:
            return Path(
                hf_hub_download(
                    file.repository,
                    file.name,
                    revision=file.revision,
                    endpoint=server,
                    force_download=again,
                )
            )
        except Exception as error:  # of huggingface_hub and of its HTTP library, which it changed
            missing = f"the server has no {file.name} of {file.repository} at revision"
            raise hub_error(
                error, file.repository, missing=f"{missing} {file.revision}", folder=folder
            ) from error


def require_connection(server: str) -> None:
    """Raise at once what huggingface_hub raises after half a minute: no network.

    Raises:
        DownloadError: there is no such host, or nothing listens there.
    """
    try:
        with urlopen(Request(server, method="HEAD"), timeout=TIMEOUT_SECONDS):
            pass
    except HTTPError:  # an answer
        pass
    except URLError as error:
        if isinstance(error.reason, socket.gaierror | ConnectionRefusedError):
            raise DownloadError(_words(error.reason)) from error
    except (OSError, HTTPException):  # perhaps huggingface_hub has other settings
        pass


@contextmanager
def hub_sentences(
    repository: str, revision: str | None, address: str = "", *, hint: str = ""
) -> Iterator[None]:
    """Turn what huggingface_hub raises into a sentence, and keep its bars to terminals.

    Args:
        repository: `user/name`.
        revision: Which was asked for.
        address: What the user calls what was asked for; by default the repository.
        hint: How the sentence ends about a repository that there is not.

    Raises:
        HeliographError: whatever was raised.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    address, server = address or repository, endpoint()
    hides = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if hides:
        disable_progress_bars()
    try:
        yield
    except DownloadError as error:
        raise HeliographError(f"{address} cannot be had: {error}") from error
    except HeliographError:
        raise
    except RevisionNotFoundError as error:
        raise HeliographError(f"{repository} has no revision {revision} on {server}") from error
    except Exception as error:  # of huggingface_hub and of its HTTP library, which it changed
        if isinstance(error, RepositoryNotFoundError) and not isinstance(error, GatedRepoError):
            raise HeliographError(
                f"there is no repository {repository} on {server}, or it is private: check the "
                f"name, or log in with `hf auth login` or HF_TOKEN{hint}"
            ) from error
        found = hub_error(error, repository, missing=f"the server has no {address} any more")
        if isinstance(found, DownloadError):
            raise HeliographError(f"{address} cannot be had: {found}") from error
        raise found from error
    finally:
        if hides:
            enable_progress_bars()


def hub_error(
    error: Exception, repository: str, *, missing: str, folder: Path | None = None
) -> HeliographError:
    """Return the sentence about what huggingface_hub, or a library of its, has raised.

    Args:
        error: What it has raised.
        repository: Of the hub, `user/name`.
        missing: What is said where the server knows no such thing.
        folder: Where it writes; the hub's cache by default.
    """
    from huggingface_hub import constants

    folder = folder or Path(constants.HF_HUB_CACHE)
    chain: list[BaseException] = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    for link in chain:
        if isinstance(link, OSError) and (link.filename or link.errno in _DISK_ERRORS):
            return write_error(Path(os.fsdecode(link.filename or folder)), link)
    codes = [getattr(getattr(link, "response", None), "status_code", None) for link in chain]
    code = next((code for code in codes if code is not None), None)
    if code in (401, 403):
        return DownloadError(
            f"the server answers {code}: open {endpoint()}/{repository}, accept its terms if "
            "there are any, and give a token with HF_TOKEN or `hf auth login`"
        )
    if code == 404:
        return DownloadError(missing)
    if code is not None and code >= 400:
        return DownloadError(f"the server answers {code}")
    if any(type(link).__name__ == "FileMetadataError" for link in chain):
        return DownloadError(f"the answer is not one of the hub: {WEB_PAGE}")
    if "Consistency check failed" in str(error):
        return DownloadError("what came is longer or shorter than the file")
    reason = chain[-1]
    return DownloadError(_words(reason) if isinstance(reason, Exception) else str(reason))
