import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data import screening
from data.errors import HeliographError
from data.files import sha256_file
from data.screening import is_recorded, own_record, record, require_screened, screen

CHECKER = "tests.helpers.checkers:check"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def identity(path: Path) -> str:
    return f"sha256:{sha256_file(path)}"


@pytest.fixture(autouse=True)
def _without_record(no_record: Path) -> None:
    """Begin every test without a record."""


def test_every_way_to_fail_is_one_sentence_and_costs_no_other_file(tmp_path):
    ways = {
        "refused": "is not what it should be",
        "raises": "is damaged: 'features\\nand a second line'",
        "crashes": "is refused: the process that read it crashed (signal 11, SIGSEGV)",
        "hangs": "is refused: reading it takes more than 3 seconds",
        "takes memory": "is refused: reading it takes more memory than 0.3 GB",
        "writes": "is damaged: [Errno 27] File too large",
        "ends": "is refused: the process that read it ended (exit code 7)",
        "asks": "is damaged: EOF when reading a line",
    }
    paths = [write(tmp_path / f"{number} {way}", way) for number, way in enumerate(ways)]
    sound = [write(tmp_path / f"{number}", f"sound {number}") for number in range(4)]
    mixed = [sound[0], *paths[:4], sound[1], *paths[4:], *sound[2:]]
    reasons = screen(mixed, CHECKER, seconds=3, memory_bytes=300 << 20)
    assert list(reasons) == paths
    for path, words in zip(paths, ways.values(), strict=True):
        assert reasons[path].startswith(f"{path} {words}")
        assert "\n" not in reasons[path]
    assert all(is_recorded(identity(path)) for path in sound)
    assert not any(is_recorded(identity(path)) for path in paths)


def test_a_file_is_read_in_another_process_once(tmp_path, monkeypatch):
    path = write(tmp_path / "a", "sound")
    require_screened(path, identity(path), CHECKER)
    monkeypatch.setattr(screening, "_recorded_here", set())  # as the next command begins
    monkeypatch.setattr(subprocess, "Popen", None)
    require_screened(path, identity(path), CHECKER)
    same = write(tmp_path / "b", "sound")
    require_screened(same, identity(same), CHECKER)
    with pytest.raises(TypeError):
        require_screened(write(path, "other"), identity(path), CHECKER)


def test_a_file_of_our_own_needs_no_process(tmp_path, monkeypatch):
    path = write(tmp_path / "a", "crashes")
    record(identity(path))
    monkeypatch.setattr(subprocess, "Popen", None)
    require_screened(path, identity(path), CHECKER)


def test_the_error_is_of_the_kind_that_the_caller_asks_for(tmp_path):
    class OwnError(HeliographError):
        pass

    path = write(tmp_path / "a", "refused")
    with pytest.raises(OwnError, match="is not what it should be"):
        require_screened(path, identity(path), CHECKER, error=OwnError)


def test_a_file_that_was_replaced_meanwhile_is_not_taken(tmp_path):
    path = write(tmp_path / "a", "is another")
    with pytest.raises(HeliographError, match="was changed while it was read"):
        require_screened(path, identity(path), CHECKER)


def test_a_checker_that_cannot_be_imported_is_an_error(tmp_path):
    path = write(tmp_path / "a", "sound")
    with pytest.raises(HeliographError, match=r"ended \(exit code 1\) at its start"):
        screen([path], "tests.helpers.nothing:check")


def test_the_record_is_in_the_users_cache_folder(no_record, monkeypatch):
    assert own_record() == no_record
    record("sha256:a", "sha256:b")
    record("sha256:b", "sha256:c")
    assert no_record.read_text().split() == ["sha256:a", "sha256:b", "sha256:c"]
    assert no_record.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", "/somewhere")
    assert own_record() == Path("/somewhere/.cache/heliograph/checked")


def test_the_record_does_not_grow_without_bound(no_record, monkeypatch):
    monkeypatch.setattr(screening, "_GENERATION_BYTES", 200)
    for number in range(100):
        record(f"sha256:{number}")
    sizes = [path.stat().st_size for path in no_record.parent.iterdir()]
    assert len(sizes) <= 2
    assert sum(sizes) < 500
    monkeypatch.setattr(screening, "_recorded_here", set())
    assert all(is_recorded(f"sha256:{number}") for number in range(90, 100))
    assert not is_recorded("sha256:1")


def test_a_torn_line_is_not_believed(no_record, monkeypatch):
    record("sha256:abcdef")
    os.truncate(no_record, 8)
    monkeypatch.setattr(screening, "_recorded_here", set())
    assert not is_recorded("sha256:a")
    record("sha256:b")
    assert not is_recorded("sha256:abcdef")


@pytest.mark.parametrize("blocked", ["file", "folder", "link", "fifo", "hard link"])
def test_a_record_that_cannot_be_written_stops_nothing(tmp_path, no_record, blocked):
    other = write(tmp_path / "other", "kept")
    if blocked == "file":
        no_record.parent.parent.write_text("a file where the folder should be")
    else:
        no_record.parent.mkdir(parents=True)
        if blocked == "folder":
            no_record.mkdir()
        elif blocked == "link":
            no_record.symlink_to(other)
        elif blocked == "fifo":
            os.mkfifo(no_record)
        else:
            no_record.hardlink_to(other)
    path = write(tmp_path / "a", "sound")
    require_screened(path, identity(path), CHECKER)
    assert other.read_text() == "kept"


def test_a_record_that_others_can_write_is_not_believed(no_record, monkeypatch):
    record("sha256:a")
    monkeypatch.setattr(screening, "_recorded_here", set())
    assert is_recorded("sha256:a")
    no_record.chmod(0o666)
    monkeypatch.setattr(screening, "_read", {})
    assert not is_recorded("sha256:a")


@pytest.mark.parametrize("way", ["hangs", "works"])
def test_the_process_ends_with_its_parent(tmp_path, way):
    path = write(tmp_path / "a", way)
    script = (
        "import subprocess, sys; from pathlib import Path; from data import screening\n"
        "class Popen(subprocess.Popen):\n"
        "    def __init__(self, *words, **options):\n"
        "        super().__init__(*words, **options); print(self.pid, flush=True)\n"
        f"subprocess.Popen = Popen; screening.screen([Path(sys.argv[1])], {CHECKER!r})"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, path], env=os.environ | _PATH, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.5)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while _is_running(child):
        time.sleep(0.05)


_PATH = {"PYTHONPATH": str(Path(screening.__file__).parents[1])}


def _is_running(process: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
