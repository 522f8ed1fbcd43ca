"""Servers on this machine in place of the internet: whole, cut, lying, slow, and a hub."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

LOGIN_PAGE = b"<!DOCTYPE html>\n<html><title>Welcome to our Wi-Fi</title></html>"
COMMIT = "c" * 40


class Answer(NamedTuple):
    """What a server sends."""

    status: int
    headers: dict[str, str]
    body: bytes


class Server:
    """A running server: `url`, and the requests that came, as (method, path, headers)."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[tuple[str, str, dict[str, str]]] = []

    def count(self, method: str) -> int:
        """Return how many requests of a method came."""
        return sum(request[0] == method for request in self.requests)


@contextmanager
def serve(
    answer: Callable[[str, str, dict[str, str]], Answer],
    take: Callable[[str, str, dict[str, str], bytes], Answer] | None = None,
) -> Iterator[Server]:
    """Serve what a function returns for a method, a path and the headers of a request.

    What is sent to it (POST, PUT) goes to `take`, with its body. A body that is shorter than its
    Content-Length is a connection that was cut.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.requests.append((self.command, self.path, headers))
            if self.command in ("POST", "PUT") and take is not None:
                sent = self.rfile.read(int(headers.get("content-length", 0)))
                status, fields, body = take(self.command, self.path, headers, sent)
            else:
                status, fields, body = answer(self.command, self.path, headers)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | fields).items():
                self.send_header(name, value)
            self.send_header("Connection", "close")
            self.close_connection = True
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server = Server(f"http://127.0.0.1:{httpd.server_address[1]}")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def part_of(content: bytes, headers: dict[str, str], *, at_most: int | None = None) -> Answer:
    """Return the answer of a server that can resume, and cuts after `at_most` bytes."""
    begin, status, fields = 0, 200, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
    if "range" in headers:
        begin = int(headers["range"].removeprefix("bytes=").removesuffix("-"))
        if begin >= len(content):
            return Answer(416, {}, b"")
        status = 206
        fields["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
    body = content[begin:]
    return Answer(status, fields | {"Content-Length": str(len(body))}, body[:at_most])


def hub_of(
    files: dict[str, bytes], *, token: str = ""
) -> Callable[[str, str, dict[str, str]], Answer]:
    """Return what the Hugging Face hub answers, that has one commit of some files.

    Args:
        files: by `owner/name/file`.
        token: which a request must have, if it is not empty.
    """

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        repository, _, rest = path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if token and headers.get("authorization") != f"Bearer {token}":
            return Answer(401, {"X-Error-Code": "GatedRepo"}, b"")
        content = files.get(f"{repository}/{name}")
        if content is None or revision not in ("main", COMMIT):
            return Answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b"")
        sha256 = hashlib.sha256(content).hexdigest()
        fields = {"X-Repo-Commit": COMMIT, "ETag": f'"{sha256}"', "X-Linked-ETag": f'"{sha256}"'}
        fields |= {"X-Linked-Size": str(len(content)), "Accept-Ranges": "bytes"}
        whole = part_of(content, headers)
        return whole._replace(headers=whole.headers | fields)

    return answer
