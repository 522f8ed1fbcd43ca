"""Files at addresses, `s3://`, `gs://`, `hf://` and `https://`: looked at, fetched, and listed.

fsspec does that, with the credentials, settings and repeated requests of its file systems (s3fs,
gcsfs, huggingface_hub, aiohttp). What fails for no lasting reason is tried again here.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from data.errors import HeliographError
from data.files import (
    Address,
    HashedFile,
    Version,
    sweep_temporaries,
    temporary_path,
    write_error,
)

PIECE_BYTES = 8 << 20  # of one request
ATTEMPTS = 4
PAUSE_SECONDS = 0.25  # before the second attempt; twice as long before each one after
SILENT_SECONDS = 60  # without a byte, of a web server

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}
_ACCESS = {
    "s3": "give credentials as AWS's tools take them (AWS_PROFILE, AWS_ACCESS_KEY_ID), or set "
    "FSSPEC_S3_ANON=true for a public bucket",
    "gs": "log in with `gcloud auth application-default login`, or set FSSPEC_GCS_TOKEN=anon for a "
    "public bucket",
    "hf": "log in with `hf auth login`, or set HF_TOKEN",
}
# What file systems call the version of a file, the surest first.
_TAGS = ("ETag", "etag", "blob_id", "generation", "Content-MD5", "Last-Modified", "LastModified")
_TIMES = ("LastModified", "mtime")  # when it was written, by the clock of the server
_FOR_NOW = (408, 409, 425, 429)  # answers that another request may not get
_Result = TypeVar("_Result")

_listed: dict[Path, Version] = {}  # of files in the folders that this process has listed


class RemoteError(HeliographError):
    """A file at an address that cannot be had; the message has the address and the reason."""


class MissingError(RemoteError):
    """There is no file at an address."""


class FolderError(RemoteError):
    """There is a folder at an address, where a file is asked for."""


class Stopped(Exception):
    """Nobody waits for a file any more."""


@dataclass(frozen=True)
class RemoteFile:
    """What a server says of a file.

    Attributes:
        address: Where it is.
        size: In bytes.
        tag: Changes with its content.
        written: When it was, in seconds since 1970 by the clock of the server.
    """

    address: Address
    size: int | None
    tag: str
    written: float | None = field(default=None, compare=False)

    @property
    def version(self) -> Version | None:
        """The version that is recorded with the file's hash; None if the server tells too little.

        >>> RemoteFile(Address("s3:/bucket/a.mp4"), 3, "1f").version
        (0, 3, '1f')
        """
        return (0, self.size, self.tag) if self.tag and self.size is not None else None


def look_up(address: Address) -> RemoteFile:
    """Return what the server says of a file.

    Raises:
        RemoteError: There is none, or the server cannot be asked.
    """
    info = _persistently(address, lambda: _file_system(address.scheme).info(str(address)))
    if info.get("type") == "directory":
        raise FolderError(f"{address} is a folder, not a file")
    return _described(address, info)


def _described(address: Address, info: dict[str, Any]) -> RemoteFile:
    size = info.get("size")
    tag = next((str(info[name]).strip('"') for name in _TAGS if info.get(name)), "")
    times = (info[name] for name in _TIMES if isinstance(info.get(name), datetime))
    written = next((each.timestamp() for each in times), None)
    return RemoteFile(address, None if size is None else int(size), tag, written)


def look_up_if_there(address: Address) -> RemoteFile | None:
    """Return what the server says of a file now; None if there is none. Raises as `look_up`."""
    _persistently(address, lambda: _file_system(address.scheme).invalidate_cache())
    try:
        return look_up(address)
    except MissingError:
        return None


def look_up_in_list(address: Address) -> RemoteFile | None:
    """Return what a list says of a file at `s3` or `gs` now: one request, also where there is none.

    Raises:
        RemoteError: The bucket cannot be listed.
    """
    system, scheme = _file_system(address.scheme), address.scheme
    bucket, _, name = str(address).partition("://")[2].partition("/")
    page = partial(_page, system, scheme, bucket, name, "")
    entries, _ = _persistently(address, page)
    return next((_described(address, info) for found, info in entries if found == name), None)


def put(path: Path, address: Address) -> None:
    """Write a file to an address, in one piece: who reads it sees the old one or the new one.

    Raises:
        RemoteError: It cannot be written.
    """
    system = _file_system(address.scheme)
    _persistently(address, lambda: system.put_file(str(path), str(address)), "written")


def put_new(content: bytes | Path, address: Address) -> bool:
    """Write bytes or a file to an address where nothing is; return whether nothing was.

    Of several processes that do that at once one is told so (of `s3` and `gs`).

    Raises:
        RemoteError: It cannot be written.
    """
    system, to = _file_system(address.scheme), str(address)

    def write() -> bool:
        try:
            if isinstance(content, bytes):
                system.pipe_file(to, content, mode="create")
            else:
                system.put_file(str(content), to, mode="create")
        except Exception as error:
            if isinstance(error, FileExistsError) or 412 in map(_code, _chain(error)):
                return False
            raise
        return True

    return _persistently(address, write, "written")


def remove(address: Address) -> None:
    """Remove a file; there may be none.

    Raises:
        RemoteError: It cannot be removed.
    """
    with suppress(MissingError):
        _persistently(
            address, lambda: _file_system(address.scheme).rm_file(str(address)), "removed"
        )


def find_files(folder: Address) -> list[Address]:
    """Return the files below a folder, sorted; raises as `look_up_all`."""
    return [file.address for file in look_up_all(folder)]


def look_up_all(folder: Address) -> list[RemoteFile]:
    """Return what the server says of the files below a folder, sorted; a file is the one in itself.

    Raises:
        RemoteError: It cannot be listed: web servers have no lists.
    """
    if folder.scheme in ("http", "https"):
        raise RemoteError(f"{folder} cannot be listed, as it is on a web server: name its files")
    system = _file_system(folder.scheme)
    found = _persistently(folder, lambda: system.find(str(folder), detail=True))
    files = [
        _described(Address(f"{folder.scheme}:/{name}"), info)
        for name, info in found.items()
        if info.get("type") != "directory"  # the folder itself, where a file has just come into it
    ]
    _listed.update((file.address, file.version) for file in files if file.version)
    return sorted(files, key=lambda file: file.address)


def list_some(folder: Address, most: int) -> None:
    """List what is below a folder for `listed_version`, and end after so many files.

    Raises:
        RemoteError: It cannot be listed.
    """
    if folder.scheme not in ("s3", "gs"):
        look_up_all(folder)
        return
    system, token, seen = _file_system(folder.scheme), "", 0
    bucket, _, below = str(folder).partition("://")[2].partition("/")
    prefix = f"{below}/" if below else ""
    while seen < most:
        page = partial(_page, system, folder.scheme, bucket, prefix, token)
        entries, token = _persistently(folder, page)
        for name, info in entries:
            file = _described(Address(f"{folder.scheme}:/{bucket}/{name}"), info)
            if file.version:
                _listed[file.address] = file.version
        seen += len(entries)
        if not token:
            return


def _page(
    system: Any, scheme: str, bucket: str, prefix: str, token: str
) -> tuple[list[tuple[str, dict[str, Any]]], str]:
    """Return names below a prefix with what the server says of them, and the token of the rest."""
    if scheme == "s3":
        after = {"ContinuationToken": token} if token else {}
        words = {"Bucket": bucket, "Prefix": prefix, **after, **system.req_kw}
        found = system.call_s3("list_objects_v2", **words)
        files = [(one["Key"], {**one, "size": one["Size"]}) for one in found.get("Contents", ())]
        return files, found.get("NextContinuationToken", "")
    after = {"pageToken": token} if token else {}
    found = system.call("GET", "b/{}/o", bucket, prefix=prefix, **after, json_out=True)
    return [(one["name"], one) for one in found.get("items", ())], found.get("nextPageToken", "")


def listed_version(path: Path) -> Version | None:
    """Return the version of a file when its folder was listed; None if no folder of it was."""
    return _listed.get(path.joinpath()) if isinstance(path, Address) else None


def read(address: Address, most_bytes: int) -> bytes:
    """Return the bytes of a file, one more than `most_bytes` of them at most.

    Raises:
        RemoteError: It cannot be had.
    """

    def content() -> bytes:
        pieces, size = [], 0
        for piece in _pieces(look_up(address)):
            pieces.append(piece)
            size += len(piece)
            if size > most_bytes:
                break
        return b"".join(pieces)[: most_bytes + 1]

    return _persistently(address, content)


def read_range(remote: RemoteFile, start: int, stop: int) -> bytes:
    """Return the bytes of a file from one offset to before another.

    Raises:
        RemoteError: They cannot be had.
    """

    def content() -> bytes:
        system = _file_system(remote.address.scheme)
        found = system.cat_file(str(remote.address), start=start, end=stop) if stop > start else b""
        if len(found) != stop - start:
            raise EOFError(f"{len(found):,} bytes came, and {stop - start:,} were asked for")
        return bytes(found)

    return _persistently(remote.address, content)


def fetch(
    remote: RemoteFile,
    path: Path,
    *,
    most_bytes: int | None = None,
    is_wanted: Callable[[], bool] = lambda: True,
) -> HashedFile:
    """Write a file of a server to `path`, hash it meanwhile, and return its hash.

    Args:
        remote: The file.
        path: Where it goes; there is nothing if this fails.
        most_bytes: It may have.
        is_wanted: Asked before each piece.

    Raises:
        RemoteError: It cannot be had, or is larger.
        WriteError: The disk is full.
        Stopped: It was not wanted any more.
    """

    def write() -> str:
        digest, size = hashlib.sha256(), 0
        with _writing(path) as file:
            for piece in _pieces(remote):
                size += len(piece)
                if most_bytes is not None and size > most_bytes:
                    raise too_large(remote.address, size, most_bytes)
                if not is_wanted():
                    raise Stopped
                digest.update(piece)
                file.write(piece)
        return digest.hexdigest()

    if most_bytes is not None and remote.size is not None and remote.size > most_bytes:
        raise too_large(remote.address, remote.size, most_bytes)
    return HashedFile(_persistently(remote.address, write), remote.version)


def too_large(address: Address, size: int, most_bytes: int) -> RemoteError:
    """Return the sentence about a file that has too many bytes."""
    return RemoteError(
        f"{address}: {size:,} bytes, the limit is {most_bytes:,} (--max-duration lifts it)"
    )


@contextmanager
def _writing(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write; it is removed on an error, of which the disk's have a sentence."""
    try:
        with open(path, "wb") as file:
            yield file
    except BaseException as error:
        with suppress(OSError):
            path.unlink()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise write_error(path, error) from error
        raise


def _pieces(remote: RemoteFile) -> Iterator[bytes]:
    """Yield the bytes of a file; EOFError where fewer or more come than it has."""
    size = 0
    options: dict[str, Any] = {"block_size": PIECE_BYTES, "cache_type": "none"}
    with _file_system(remote.address.scheme).open(str(remote.address), "rb", **options) as file:
        while piece := file.read(PIECE_BYTES):
            size += len(piece)
            yield piece
    if remote.size is not None and size != remote.size:
        raise EOFError(f"{size:,} bytes came, and it has {remote.size:,}")


def _file_system(scheme: str) -> Any:
    """Return the file system of addresses of a scheme; any thread may use it."""
    return _connected(scheme, os.environ.get("HF_ENDPOINT", "") if scheme == "hf" else "")


@cache
def _connected(scheme: str, endpoint: str) -> Any:
    import fsspec

    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme in ("http", "https"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=SILENT_SECONDS, sock_read=SILENT_SECONDS
        )
        options["client_kwargs"] = {"timeout": timeout}
    if (
        scheme == "gs"
    ):  # else gcsfs asks what kind a bucket is by gRPC, a minute where HTTP alone works
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    if endpoint:  # huggingface_hub looks for it once
        options["endpoint"] = endpoint.rstrip("/")
    return fsspec.filesystem(scheme, **options)


def _persistently(address: Address, do: Callable[[], _Result], verb: str = "fetched") -> _Result:
    """Return what `do` returns; where it fails for no lasting reason it is called again.

    Raises:
        RemoteError: It failed.
    """
    for attempt in range(ATTEMPTS):
        try:
            return do()
        except (HeliographError, Stopped):
            raise
        except Exception as error:
            chain = _chain(error)
            code = next((code for link in chain if (code := _code(link))), None)
            if attempt == ATTEMPTS - 1 or _is_lasting(chain, code):
                raise _failure(address, chain, code, verb) from error
            time.sleep(PAUSE_SECONDS * 2**attempt)
    raise AssertionError


def _chain(error: BaseException) -> list[BaseException]:
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    # fsspec says that a file is not there where a web server does not answer.
    while len(chain) > 1 and type(chain[0]) is FileNotFoundError and _is_of_network(chain[1]):
        del chain[0]
    return chain


def _is_of_network(error: BaseException) -> bool:
    # Their packages may be missing. aiohttp's errors of a server's answers have a code.
    is_network = isinstance(error, (TimeoutError, ConnectionError)) or type(
        error
    ).__module__.startswith("aiohttp")
    return is_network and _code(error) is None


def _code(error: BaseException) -> int | None:
    """Return the code that a server has answered, of an exception of any of the file systems."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # of botocore
        code = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    elif type(error).__module__.startswith("gcsfs"):
        code = getattr(error, "code", None)
    elif type(error) is OSError and str(error).startswith("Forbidden: "):  # of gcsfs, too
        code = 403
    else:
        code = getattr(response, "status_code", None) or getattr(error, "status", None)
    with suppress(TypeError, ValueError):
        return int(code) if 300 <= int(code) < 600 else None
    return None


def _is_lasting(chain: list[BaseException], code: int | None) -> bool:
    """Return whether an attempt later on would fail as well."""
    if code is not None:
        return code < 500 and code not in _FOR_NOW
    kinds = (ImportError, FileNotFoundError, PermissionError, IsADirectoryError, ValueError)
    return isinstance(chain[0], kinds) or _lacks_credentials(chain)


def _lacks_credentials(chain: list[BaseException]) -> bool:
    names = {type(link).__name__ for link in chain}
    return bool(
        names & {"NoCredentialsError", "DefaultCredentialsError", "LocalTokenNotFoundError"}
    )


def _failure(
    address: Address, chain: list[BaseException], code: int | None, verb: str
) -> RemoteError:
    """Return the sentence about a failure: the address, the reason, and the way out."""
    scheme, error = address.scheme, chain[0]
    access = _ACCESS.get(scheme, "check that its server lets you read it")
    if isinstance(error, ImportError):
        package = _PACKAGES.get(scheme, "fsspec")
        return RemoteError(
            f"{address} needs the package {package}: pip install 'heliograph[remote]'"
        )
    if code == 404 or (code is None and isinstance(error, FileNotFoundError)):
        what = "file" if verb == "fetched" else "bucket or repository"
        return MissingError(
            f"{address} cannot be {verb}: there is no such {what} (404): check the address"
        )
    if _lacks_credentials(chain):
        reason = f"there are no credentials for it: {access}"
    elif code in (401, 403) or (code is None and isinstance(error, PermissionError)):
        reason = f"the server answers {code or 403}, no access: {access}"
    elif code is not None:
        reason = f"the server answers {code}: try again later"
    else:
        line = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        reason = f"{line}: try again later, or check the network"
    return RemoteError(f"{address} cannot be {verb}: {reason}")


@dataclass
class _Fetched:
    """A file that was fetched, or is being fetched by whoever holds the lock."""

    path: Path
    users: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    source: HashedFile | None = None


class Fetcher:
    """Files of addresses in a temporary folder: those that are in use, and the last one that was.

    So the clips of one file cost one download, where they come one after the other. The folder is
    in that of the system (`TMPDIR`), and is removed by `close`; a killed process's by the next one.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._files: dict[RemoteFile, _Fetched] = {}
        self._folder: Path | None = None
        self._count = 0

    @contextmanager
    def file(
        self,
        remote: RemoteFile,
        *,
        most_bytes: int | None = None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Iterator[tuple[Path, HashedFile]]:
        """Give the path of a file and its hash, while the block runs; as `fetch` does.

        Raises:
            RemoteError, WriteError, Stopped: As for `fetch`.
        """
        with self._guard:
            fetched = self._files.get(remote) or self._new(remote)
            fetched.users += 1
        try:
            with fetched.lock:
                if fetched.source is None:
                    fetched.source = fetch(
                        remote, fetched.path, most_bytes=most_bytes, is_wanted=is_wanted
                    )
            yield fetched.path, fetched.source
        finally:
            with self._guard:
                fetched.users -= 1
                if not fetched.users:
                    self._remove_idle(but=remote)

    def _new(self, remote: RemoteFile) -> _Fetched:
        if self._folder is None:
            here = Path(tempfile.gettempdir())
            sweep_temporaries(here, of="heliograph")
            self._folder = temporary_path(here / "heliograph")
            try:
                self._folder.mkdir(mode=0o700)
            except OSError as error:
                raise write_error(self._folder, error) from error
        self._count += 1
        path = self._folder / f"{self._count}{remote.address.suffix[:20]}"
        self._files[remote] = fetched = _Fetched(path)
        return fetched

    def _remove_idle(self, but: RemoteFile | None = None) -> None:
        for remote, fetched in list(self._files.items()):
            if not fetched.users and remote != but:
                del self._files[remote]
                with suppress(OSError):
                    fetched.path.unlink()

    def close(self) -> None:
        """Remove the folder; nobody uses a file of it any more."""
        with self._guard:
            self._remove_idle()
            if self._folder is not None and not self._files:
                with suppress(OSError):
                    self._folder.rmdir()
                self._folder = None
