import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from data.files import UnsafeFileError, WriteError
from data.lock import PAUSE, BusyError, Lock
from tests.helpers.planting import plant

ROOT = Path(__file__).resolve().parents[2]


def run(code: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_second_is_told_who_holds_it(tmp_path):
    lock = Lock(tmp_path / "parts" / "lock", tmp_path / "c.h5")
    holder = rf"c\.h5 is being written by process {os.getpid()} on .* since \d{{4}}-"
    with pytest.raises(BusyError, match=holder):
        Lock(tmp_path / "parts" / "lock", tmp_path / "c.h5")
    with pytest.raises(BusyError, match=holder):  # asking has not removed the name
        Lock(tmp_path / "parts" / "lock", tmp_path / "c.h5")
    assert lock.held
    lock.release()
    lock.release()
    assert not lock.held
    assert os.listdir(tmp_path) == []


def test_folders_that_were_made_for_it_alone_go_with_it(tmp_path):
    (tmp_path / "mine").mkdir()
    Lock(tmp_path / "mine" / "new" / "newer" / "lock", tmp_path / "c.h5").release()
    assert os.listdir(tmp_path / "mine") == []
    Lock(tmp_path / "mine" / "lock", tmp_path / "c.h5").release()
    assert os.listdir(tmp_path) == []
    lock = Lock(tmp_path / "new" / "one" / "lock", tmp_path / "c.h5")
    (tmp_path / "new" / "other").touch()
    lock.release()
    assert os.listdir(tmp_path / "new") == ["other"]


def test_its_folder_stays_where_something_else_is_in_it(tmp_path):
    lock = Lock(tmp_path / "parts" / "lock", tmp_path / "c.h5")
    (tmp_path / "parts" / "shard").touch()
    lock.release()
    assert os.listdir(tmp_path / "parts") == ["shard"]


def test_a_dead_process_holds_nobody_up(tmp_path):
    code = """
import os, sys
from pathlib import Path
from data.lock import Lock
lock = Lock(Path(sys.argv[1]), Path("c.h5"))
os.kill(os.getpid(), 9)
"""
    assert run(code, tmp_path / "lock").wait() == -signal.SIGKILL
    assert (tmp_path / "lock").exists()
    Lock(tmp_path / "lock", tmp_path / "c.h5").release()


def test_a_dead_holder_whose_child_has_not_let_go_yet_is_waited_for(tmp_path, monkeypatch):
    """Between a fork and the child's first step, a dead process's lock is still taken."""
    path = tmp_path / "lock"
    dead = subprocess.Popen(["true"])
    dead.wait()
    path.write_text(f"process {dead.pid} on {socket.gethostname()} since 2026-01-01T00:00:00+00:00")
    child = path.open()
    fcntl.flock(child, fcntl.LOCK_EX)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            child.close()

    monkeypatch.setattr("data.lock.time.sleep", pause)
    Lock(path, tmp_path / "c.h5").release()
    assert pauses == [PAUSE] * 3


def test_a_child_of_a_dead_process_holds_nobody_up(tmp_path):
    """A lock ends with the process that took it, not with what was forked meanwhile."""
    code = """
import os, sys, time
from pathlib import Path
from data.lock import Lock
lock = Lock(Path(sys.argv[1]), Path("c.h5"))
child = os.fork()
if not child:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
os.kill(os.getpid(), 9)
"""
    process = run(code, tmp_path / "lock")
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.wait()
        Lock(tmp_path / "lock", tmp_path / "c.h5").release()
    finally:
        os.kill(child, signal.SIGKILL)


def test_many_at_once_never_two_hold_it(tmp_path):
    """The file and its folder are removed at each release, while others try to take it."""
    code = """
import sys, time
from pathlib import Path
from data.lock import BusyError, Lock
count = Path(sys.argv[1]) / "count"
for _ in range(60):
    while True:
        try:
            lock = Lock(Path(sys.argv[1]) / "parts" / "lock", Path("c.h5"))
        except BusyError:
            time.sleep(0.0001)  # the holder may need this core
            continue
        break
    before = int(count.read_text())
    count.write_text(str(before + 1))
    lock.release()
"""
    (tmp_path / "count").write_text("0")
    processes = [run(code, tmp_path) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "180"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_on_a_file_system_without_locks_everybody_gets_it(tmp_path, monkeypatch, code):
    def refused(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refused)
    locks = [Lock(tmp_path / "parts" / "lock", tmp_path / "c.h5") for _ in range(2)]
    assert all(lock.held for lock in locks)
    for lock in locks:
        lock.release()


def test_its_folder_is_removed_while_it_is_taken(tmp_path, monkeypatch):
    """Whoever held it removes it; `mkdir` then finds neither room for a folder nor a folder."""
    mkdir, asked = os.mkdir, []

    def raced(folder: Path) -> None:
        asked.append(folder)
        if len(asked) == 1:
            raise FileExistsError(errno.EEXIST, "File exists", str(folder))
        mkdir(folder)

    monkeypatch.setattr(os, "mkdir", raced)
    lock = Lock(tmp_path / "c.h5.parts" / "lock", tmp_path / "c.h5")
    assert lock.held
    lock.release()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("path", ["/proc/lock", "/proc/no.h5.parts/lock"])
def test_a_lock_where_nothing_can_be_made_is_refused_and_not_waited_for(path):
    with pytest.raises(WriteError, match=r"/proc.* cannot be written: No such file or directory"):
        Lock(Path(path), Path(path).parent)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["link", "dangling link", "FIFO", "hard link", "folder"])
def test_what_is_planted_at_its_name_is_refused(tmp_path, kind):
    path, victim = tmp_path / "parts" / "lock", tmp_path / "victim"
    plant(path, kind, victim)
    with pytest.raises(UnsafeFileError, match=r"parts/lock is not written: it "):
        Lock(path, tmp_path / "c.h5")
    assert victim.read_text() == "a user's own"
    assert sorted(os.listdir(tmp_path)) == ["parts", "victim"]
    assert path.exists() or path.is_symlink()


def test_a_lock_file_that_only_its_owner_may_write(tmp_path, monkeypatch):
    """A colleague's, in a shared folder."""
    path = tmp_path / "parts" / "lock"
    path.parent.mkdir()
    path.write_text("process 1 on elsewhere since 2026-01-01T00:00:00+00:00")
    opened = os.open

    def refuse_writing(name: object, flags: int, *mode: int) -> int:
        if name == path and flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(name, flags, *mode)

    monkeypatch.setattr(os, "open", refuse_writing)
    lock = Lock(path, tmp_path / "c.h5")
    with pytest.raises(BusyError, match="process 1 on elsewhere"):
        Lock(path, tmp_path / "c.h5")
    lock.release()
    assert os.listdir(tmp_path) == []
