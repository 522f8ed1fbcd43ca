"""Downloads: cut, killed, lied to, slow; one at a time, and never half of a file."""

import hashlib
import logging
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backbones import downloads
from backbones.downloads import DownloadError, HubFile, fetch, fetch_from_hub, one_at_a_time
from data.errors import HeliographError
from data.lock import Lock
from tests.helpers.servers import COMMIT, LOGIN_PAGE, Answer, Server, hub_of, part_of, serve

CONTENT = random.Random(0).randbytes(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = HubFile("timm/tiny", "main", "model.safetensors")
Respond = Callable[[str, str, dict[str, str]], Answer]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(downloads, "POLL_SECONDS", 0.001)


def whole(method: str, path: str, headers: dict[str, str]) -> Answer:
    return part_of(CONTENT, headers)


def cut_after(count: int) -> Respond:
    return lambda method, path, headers: part_of(CONTENT, headers, at_most=count)


def test_a_file_is_downloaded_and_nothing_else_is_left(tmp_path: Path) -> None:
    with serve(whole) as server:
        fetch(f"{server.url}/a.pth", tmp_path / "sub" / "a.pth", sha256=SHA256)
        fetch(f"{server.url}/b.pth", tmp_path / "sub" / "b.pth", size_bytes=len(CONTENT))
    assert sorted(os.listdir(tmp_path / "sub")) == ["a.pth", "b.pth"]
    assert {path.read_bytes() for path in (tmp_path / "sub").iterdir()} == {CONTENT}


@pytest.mark.parametrize("sha256", [SHA256, ""])
def test_a_connection_that_is_cut_is_resumed(tmp_path: Path, sha256: str) -> None:
    with serve(cut_after(60_000)) as server:
        fetch(server.url, tmp_path / "a.pth", sha256=sha256)
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    ranges = [headers.get("range") for _, _, headers in server.requests]
    assert ranges == [None, "bytes=60000-", "bytes=120000-", "bytes=180000-"]


def test_a_server_that_cannot_resume_is_asked_for_all_of_it(tmp_path: Path) -> None:
    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        return part_of(CONTENT, {}, at_most=50_000 if len(server.requests) == 1 else None)

    with serve(answer) as server:
        fetch(server.url, tmp_path / "a.pth", sha256=SHA256)
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_file_that_changes_on_the_server_is_not_mixed(tmp_path: Path) -> None:
    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        first = len(server.requests) == 1
        return part_of(CONTENT[::-1] if first else CONTENT, headers, at_most=50_000 * first or None)

    with serve(answer) as server:
        fetch(server.url, tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == CONTENT


def fetch_in_child(url: str, path: Path) -> None:
    fetch(url, path, sha256=SHA256)


def test_a_killed_download_is_resumed_by_the_next_process(tmp_path: Path) -> None:
    path, killed = tmp_path / "a.pth", threading.Event()

    def answer(method: str, url: str, headers: dict[str, str]) -> Answer:
        if "range" in headers and not killed.is_set():  # it comes back for the rest
            child.kill()
            killed.set()
        return part_of(CONTENT, headers, at_most=None if killed.is_set() else 70_000)

    with serve(answer) as server:
        child = multiprocessing.get_context("fork").Process(
            target=fetch_in_child, args=(server.url, path)
        )
        child.start()
        child.join()
        assert os.listdir(tmp_path) == [".a.pth.partial"]
        fetch(server.url, path, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert server.requests[-1][2]["range"] == "bytes=70000-"
    assert os.listdir(tmp_path) == ["a.pth"]


@pytest.mark.parametrize("begun", [b"another file" * 99, CONTENT + b"and more", CONTENT[::-1]])
@pytest.mark.parametrize("size_bytes", [0, len(CONTENT)])
def test_a_partial_file_of_other_bytes_is_begun_anew(
    tmp_path: Path, begun: bytes, size_bytes: int
) -> None:
    (tmp_path / ".a.pth.partial").write_bytes(begun)
    with serve(whole) as server:
        fetch(server.url, tmp_path / "a.pth", size_bytes=size_bytes, sha256=SHA256)
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["a.pth"]


def test_what_torch_hub_left_half_is_removed_unless_it_grows(tmp_path: Path) -> None:
    old, new = (tmp_path / f"a.pth.{name}.partial" for name in ("0f3a", "77bc"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    with serve(whole) as server:
        fetch(server.url, tmp_path / "a.pth")
    assert sorted(os.listdir(tmp_path)) == ["a.pth", new.name]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(200, {"Content-Type": "text/html"}, LOGIN_PAGE), "a web page .HTML. came in its"),
        (Answer(200, {}, LOGIN_PAGE), "a web page .HTML. came in its place, perhaps the login"),
        (Answer(404, {}, b"no"), "the server answers 404 Not Found"),
        (Answer(503, {}, b"no"), "the server answers 503 Service Unavailable"),
        (Answer(200, {}, CONTENT[1:] + b"x"), "its sha256 is [0-9a-f]{64}, not the published one"),
        (Answer(200, {}, CONTENT[1:]), "the server has a file of 199,999 bytes"),
        (Answer(200, {"Content-Length": "200000"}, b""), "the connection was cut"),
    ],
)
def test_what_is_not_the_file_is_a_reason(tmp_path: Path, answer: Answer, reason: str) -> None:
    with serve(lambda *_: answer) as server, pytest.raises(DownloadError, match=f"^{reason}"):
        fetch(server.url, tmp_path / "a.pth", size_bytes=len(CONTENT), sha256=SHA256)
    assert not (tmp_path / "a.pth").exists()


def test_a_server_that_is_silent_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.05)
    release = threading.Event()

    def answer(*_: object) -> Answer:
        release.wait()
        return Answer(200, {}, CONTENT)

    with serve(answer) as server:
        try:
            with pytest.raises(DownloadError, match="no answer for 0 seconds"):
                fetch(server.url, tmp_path / "a.pth")
        finally:
            release.set()


def test_no_connection_is_a_reason_at_once(tmp_path: Path) -> None:
    with serve(whole) as server:
        pass
    with pytest.raises(DownloadError, match="Connection refused"):
        fetch(server.url, tmp_path / "a.pth")
    with pytest.raises(DownloadError, match="unknown url type"):
        fetch("mirror.example/a.pth", tmp_path / "a.pth")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_a_sentence_about_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloads, "_write", full)
    with serve(whole) as server, pytest.raises(HeliographError) as caught:
        fetch(server.url, tmp_path / "a.pth", sha256=SHA256)
    assert str(caught.value).startswith(f"{tmp_path / 'a.pth'} cannot be written: the disk is full")


def test_a_link_at_the_partial_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "thesis.txt"
    victim.write_text("all of it")
    (tmp_path / ".a.pth.partial").symlink_to(victim)
    with serve(whole) as server, pytest.raises(HeliographError, match="it is a symbolic link"):
        fetch(server.url, tmp_path / "a.pth", sha256=SHA256)
    assert victim.read_text() == "all of it"


def test_a_process_that_waits_for_another_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.pth"
    (tmp_path / "b.pth").touch()  # a lock takes an empty folder with it
    lock = Lock(tmp_path / ".a.pth.lock", path)
    done = threading.Event()

    def wait() -> None:
        with one_at_a_time(path):
            done.set()

    thread = threading.Thread(target=wait)
    with caplog.at_level(logging.WARNING):
        thread.start()
        while not caplog.messages:
            time.sleep(0.01)
        assert not done.is_set()
        lock.release()
        thread.join()
    (line,) = caplog.messages
    assert line.startswith(f"waiting: {path} is being written by process {os.getpid()} on ")
    assert os.listdir(tmp_path) == ["b.pth"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Server], Path]:
    """Make a server the Hugging Face hub, and an empty folder its cache; gives the folder."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)

    def use(server: Server) -> Path:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        return tmp_path / "hf"

    return use


def test_a_file_of_the_hub_is_in_its_cache(hub: Callable[[Server], Path]) -> None:
    with serve(hub_of({"timm/tiny/model.safetensors": CONTENT})) as server:
        cache = hub(server)
        path = fetch_from_hub(FILE)
        assert path.is_relative_to(cache)
        assert path.read_bytes() == CONTENT
        assert COMMIT in path.parts
        gets = server.count("GET")
        path.resolve().write_bytes(b"damaged")
        assert fetch_from_hub(FILE).read_bytes() == b"damaged"
        assert server.count("GET") == gets
        assert fetch_from_hub(FILE, again=True).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("respond", "reason"),
    [
        (hub_of({}), r"the server has no model\.safetensors of timm/tiny at revision main"),
        (
            hub_of({}, token="secret"),
            r"the server answers 401: open http://127\S+/timm/tiny, accept its terms if there are "
            r"any, and give a token with HF_TOKEN or `hf auth login`",
        ),
        (
            lambda *_: Answer(200, {"Content-Type": "text/html"}, LOGIN_PAGE),
            r"the answer is not one of the hub: a web page \(HTML\) came in its place",
        ),
        (lambda *_: Answer(500, {}, b""), r"the server answers 500"),
    ],
)
def test_what_the_hub_refuses_is_a_reason(
    hub: Callable[[Server], Path], respond: Respond, reason: str
) -> None:
    with serve(respond) as server:
        hub(server)
        with pytest.raises(DownloadError, match=f"^{reason}"):
            fetch_from_hub(FILE)


def test_a_login_page_in_place_of_the_file_is_never_kept(hub: Callable[[Server], Path]) -> None:
    real = hub_of({"timm/tiny/model.safetensors": CONTENT})

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        return real(method, path, headers) if method == "HEAD" else Answer(200, {}, LOGIN_PAGE)

    with serve(answer) as server:
        cache = hub(server)
        with pytest.raises(DownloadError, match="what came is longer or shorter than the file"):
            fetch_from_hub(FILE)
    assert not [path for path in cache.rglob("blobs/*") if path.is_file()]


def test_a_cut_connection_to_the_hub_is_resumed(hub: Callable[[Server], Path]) -> None:
    real = hub_of({"timm/tiny/model.safetensors": CONTENT})

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        found = real(method, path, headers)
        return found if "range" in headers else found._replace(body=found.body[:60_000])

    with serve(answer) as server:
        hub(server)
        assert fetch_from_hub(FILE).read_bytes() == CONTENT
    assert server.requests[-1][2]["range"] == "bytes=60000-"


def test_what_a_killed_process_left_in_the_hubs_cache_is_removed(
    hub: Callable[[Server], Path],
) -> None:
    with serve(hub_of({"timm/tiny/model.safetensors": CONTENT})) as server:
        blobs = hub(server) / "models--timm--tiny" / "blobs"
        blobs.mkdir(parents=True)
        old, new = blobs / "a.incomplete", blobs / "b.incomplete"
        for path in (old, new):
            path.touch()
        os.utime(old, (1, 1))
        fetch_from_hub(FILE)
    assert not old.exists()
    assert new.exists()


def test_no_request_is_made_offline(
    hub: Callable[[Server], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with serve(hub_of({"timm/tiny/model.safetensors": CONTENT})) as server:
        hub(server)
        with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
            fetch_from_hub(FILE)
    assert server.requests == []


def test_a_mirror_that_is_no_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "mirror.example")
    with pytest.raises(DownloadError, match=r"HF_ENDPOINT is mirror\.example, not an address"):
        fetch_from_hub(FILE)
