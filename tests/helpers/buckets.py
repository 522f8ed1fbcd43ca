"""Servers of S3 (moto's) and of Google's on this machine, with faults where a test wants them."""

from __future__ import annotations

import asyncio
import io
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from data import remote

BUCKET = "clips"


@dataclass
class Bucket:
    """A bucket on a running server.

    Attributes:
        client: Of boto3.
        requests: Those that came, as (method, path).
        faults: What becomes of the next requests of a method: `cut`, half of the body comes,
            `lost`, it is done and the answer is an error, or a status such as `500 Internal Server
            Error`; "", it is answered.
    """

    client: Any
    requests: list[tuple[str, str]] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def put(self, name: str, content: bytes) -> str:
        """Put an object into the bucket; return its address."""
        self.client.put_object(Bucket=BUCKET, Key=name, Body=content)
        self.requests.clear()
        return f"s3://{BUCKET}/{name}"

    def get(self, name: str) -> bytes:
        """Return what an object holds."""
        return bytes(self.client.get_object(Bucket=BUCKET, Key=name)["Body"].read())

    def names(self) -> list[str]:
        """Return the names of all objects."""
        found = self.client.list_objects_v2(Bucket=BUCKET)
        return [entry["Key"] for entry in found.get("Contents", ())]

    def count(self, method: str, name: str = "") -> int:
        """Return how many requests of a method came for names that contain `name`."""
        return sum(verb == method and name in path for verb, path in self.requests)

    def _is_faulty(self, method: str) -> str:
        left = self.faults.get(method)
        return left.pop(0) if left else ""


@contextmanager
def serve_bucket() -> Iterator[Bucket]:
    """Run a server with one bucket, which the environment of this process names."""
    server = make_server("127.0.0.1", 0, lambda *call: app(*call), threaded=True)
    url = f"http://127.0.0.1:{server.server_port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", url)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        patch.setattr(remote, "PAUSE_SECONDS", 0.01)
        patch.setattr("s3fs.S3FileSystem.retries", 1)
        remote._connected.cache_clear()
        bucket = Bucket(boto3.client("s3"))
        app = _with_faults(DomainDispatcherApplication(create_backend_app), bucket)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            bucket.client.create_bucket(Bucket=BUCKET)
            bucket.requests.clear()
            yield bucket
        finally:
            bucket.faults.clear()
            for name in bucket.names():  # all servers of a process have the same objects
                bucket.client.delete_object(Bucket=BUCKET, Key=name)
            server.shutdown()
            thread.join()
            remote._connected.cache_clear()


@contextmanager
def serve_google_bucket() -> Iterator[Bucket]:
    """Run a server of Google's kind with one bucket, which the environment of this process names.

    Its faults are statuses; it has no client.
    """
    bucket, storage = Bucket(None), Storage(use_memory_fs=True)
    create_bucket(BUCKET, storage)

    class Handler(RequestHandler):
        def parse_request(self) -> bool:
            if not super().parse_request():
                return False
            bucket.requests.append((self.command, self.path))
            fault = bucket._is_faulty(self.command)
            if not fault and "ifGenerationMatch=0" in self.path and self._is_there():
                fault = "412"
            if fault:
                self.send_error(int(fault))
            return not fault

        def _is_there(self) -> bool:
            """Return whether the object that is put is there, which the server does not ask."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.rfile = io.BytesIO(body)
            name, *_ = re.findall(rb'"name": "([^"]+)"', body)
            with suppress(NotFound):
                storage.get_file_obj(BUCKET, name.decode())
                return True
            return False

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, storage))
    server.handle_error = lambda *_: None  # gcsfs asks two questions, and leaves the slower answer
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        patch.setenv("FSSPEC_GCS_TOKEN", "anon")
        patch.setattr(remote, "PAUSE_SECONDS", 0.01)
        remote._connected.cache_clear()
        remote._file_system("gs")  # sees how gcsfs is imported
        patch.setattr("gcsfs.retry.asyncio", SimpleNamespace(sleep=lambda _: asyncio.sleep(0.01)))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield bucket
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            remote._connected.cache_clear()


def _with_faults(app: Callable[..., Iterable[bytes]], bucket: Bucket) -> Callable[..., Any]:
    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        bucket.requests.append((method, environ["PATH_INFO"]))
        fault = bucket._is_faulty(method)
        if fault == "lost":
            app(environ, lambda *_: None)
            fault = "500 Internal Server Error"
        if fault and fault != "cut":
            start_response(fault, [("Content-Length", "0"), ("Connection", "close")])
            return [b""]
        body = app(environ, start_response)
        if not fault:
            return body
        content = b"".join(body)
        return [content[: len(content) // 2]]

    return answer
