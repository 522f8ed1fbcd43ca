import errno
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data.cache import save
from data.files import (
    UnsafeFileError,
    WriteError,
    atomic_write,
    is_abandoned,
    is_hollow,
    make_folder,
    open_regular,
    process_name,
    replacing,
    sha256_file,
    sweep_temporaries,
    temporary_path,
    write_once,
)
from data.lock import Lock
from tests.helpers.features import make_features
from tests.helpers.planting import plant

ROOT = Path(__file__).resolve().parents[2]


def test_text_and_bytes(tmp_path):
    atomic_write(tmp_path / "deep/er/x.txt", "é")
    atomic_write(tmp_path / "deep/er/x.bin", b"\0")
    assert (tmp_path / "deep/er/x.txt").read_bytes() == "é".encode()
    assert sha256_file(tmp_path / "deep/er/x.bin") == hashlib.sha256(b"\0").hexdigest()


@pytest.mark.parametrize("address", ["hf://datasets/user/name/a.h5", "s3:/b/a", "file:///a/b.h5"])
def test_an_address_becomes_no_folder_here(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    path = Path(address)
    for write in (
        lambda: atomic_write(path, ""),
        lambda: write_once(path, ""),
        lambda: make_folder(path),
        lambda: Lock(path / "lock", path),
        lambda: open_regular(path, "ab"),
        lambda: save(make_features(), path),
    ):
        with pytest.raises(UnsafeFileError, match=r"^(hf|s3|file)://.* it is an address"):
            write()
    assert not os.listdir(tmp_path)


@pytest.mark.timeout(120)
def test_what_cannot_be_read_to_its_end_is_not_hashed(tmp_path):
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 40)
    with pytest.raises(UnsafeFileError, match="sparse is not read: hardly any of its bytes"):
        sha256_file(tmp_path / "sparse")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    for name in ("fifo", "link", "/dev/zero"):
        with pytest.raises(UnsafeFileError, match=r"is not read: it is a (FIFO|device)"):
            sha256_file(tmp_path / name)


def test_a_file_system_that_says_no_sizes_on_disk_hides_no_file(tmp_path, monkeypatch):
    """Nor one that stores zeros as holes: only a file that is mostly holes is refused."""
    monkeypatch.setattr("data.files.HOLLOW_BYTES", 1000)
    (tmp_path / "x").write_bytes(bytes(200_000))
    assert not is_hollow(tmp_path / "x")
    looked = os.stat

    def without_blocks(path: object, **options: object) -> os.stat_result:
        status = looked(path, **options)
        return os.stat_result(tuple(status), {"st_blocks": 0})

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", without_blocks)
        assert not is_hollow(tmp_path / "x")


def test_an_error_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path):
    atomic_write(tmp_path / "x", "old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "x") as file:
        file.write(bytes(1 // len(file.name[:0])))
    assert (tmp_path / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_target_that_is_a_folder(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(WriteError, match=r"/x cannot be written: a folder is in its place"):
        atomic_write(tmp_path / "x", "")
    assert os.listdir(tmp_path) == ["x"]


def test_another_files_error_stays_its_own(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"), replacing(tmp_path / "x"):
        (tmp_path / "gone").read_bytes()


KILLED_WRITER = """
import os, sys
from pathlib import Path
from data.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), 9)
"""


def kill_a_writer(path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED_WRITER, str(path)], cwd=ROOT)


def test_only_what_killed_writers_left_is_swept(tmp_path):
    for folder, name in (("one", "a.h5"), ("other", "b.h5")):
        kill_a_writer(tmp_path / folder / name)
        for left in (tmp_path / folder).iterdir():
            left.rename(tmp_path / left.name)
        (tmp_path / folder).rmdir()
    for name in (".notes.tmp", "x.tmp", ".a.h5.swp"):
        (tmp_path / name).write_text("mine")
    assert len(os.listdir(tmp_path)) == 5
    (swept,) = sweep_temporaries(tmp_path, of="a.h5")
    assert swept.name.startswith(".a.h5.")
    assert len(sweep_temporaries(tmp_path)) == 1
    assert sorted(os.listdir(tmp_path)) == [".a.h5.swp", ".notes.tmp", "x.tmp"]


def test_a_writer_sweeps_what_a_killed_one_left(tmp_path):
    kill_a_writer(tmp_path / "a.h5")
    assert len(os.listdir(tmp_path)) == 1
    atomic_write(tmp_path / "b.h5", "")
    assert os.listdir(tmp_path) == ["b.h5"]


def test_what_a_living_process_or_another_machine_writes_stays(tmp_path):
    """No lock guards a sweep: on some file systems there is none."""
    with replacing(tmp_path / "a.h5"):
        assert sweep_temporaries(tmp_path) == []
    ours = temporary_path(tmp_path / "a.h5").name
    host, process, started = re.findall("[.]([0-9a-f]{8})-([0-9]+)-([0-9]+)-", ours)[0]
    dead = subprocess.Popen(["true"])
    dead.wait()
    names = {
        "another machine's": f".a.h5.{'0' * 8}-{dead.pid}-{started}-{'0' * 16}.tmp",
        "a living process's": f".a.h5.{host}-{process}-{started}-{'0' * 16}.tmp",
        "a living process's of an older version": f".a.h5.{process}-{'0' * 8}.tmp",
    }
    for name in names.values():
        (tmp_path / name).touch()
    gone = {
        "a dead process's": f".a.h5.{host}-{dead.pid}-{started}-{'0' * 16}.tmp",
        "one's whose number another has now": f".a.h5.{host}-{process}-1-{'0' * 16}.tmp",
        "a dead process's of an older version": f".a.h5.{dead.pid}-{'0' * 8}.tmp",
    }
    for name in gone.values():
        (tmp_path / name).touch()
    assert sorted(path.name for path in sweep_temporaries(tmp_path)) == sorted(gone.values())
    os.utime(tmp_path / names["another machine's"], (0, 0))  # nobody writes since 1970
    assert [path.name for path in sweep_temporaries(tmp_path)] == [names["another machine's"]]


def test_a_killed_child_nobody_waited_for_is_dead(tmp_path):
    child = os.fork()
    if not child:
        (tmp_path / temporary_path(Path("a.h5"))).touch()
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert len(sweep_temporaries(tmp_path)) == 1
    os.waitpid(child, 0)


def test_folders_that_were_to_become_something_are_swept_too(tmp_path):
    child = os.fork()
    if not child:
        folder = temporary_path(tmp_path / "run")
        folder.mkdir()
        (folder / "model.pt").touch()
        os._exit(0)
    os.waitpid(child, 0)
    assert len(sweep_temporaries(tmp_path, of="run")) == 1
    assert os.listdir(tmp_path) == []


def test_a_long_name_leaves_room_for_the_name_of_the_temporary_file(tmp_path):
    name = "é" * 120
    atomic_write(tmp_path / name, "x")
    assert os.listdir(tmp_path) == [name]


KINDS = {
    "link": "it is a symbolic link",
    "dangling link": "it is a symbolic link",
    "FIFO": "it is a FIFO",
    "socket": "it is a socket",
    "hard link": r"it has 1 more name \(hard links\)",
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_planted_under_a_name_is_not_written_through(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    path, victim = Path("c.jsonl"), Path("victim")
    plant(path, kind, victim)
    for mode in ("r+b", "ab", "a+b"):
        with pytest.raises(UnsafeFileError, match=f"c.jsonl is not written: {KINDS[kind]}"):
            open_regular(path, mode)
    with pytest.raises(UnsafeFileError, match=f"c.jsonl is not written: {KINDS[kind]}"):
        atomic_write(path, "ours")
    assert victim.read_text() == "a user's own"
    assert sorted(os.listdir()) == ["c.jsonl", "victim"]
    if kind == "hard link":
        assert open_regular(path).read() == b"a user's own"
    else:
        with pytest.raises(UnsafeFileError, match=f"c.jsonl is not read: {KINDS[kind]}"):
            open_regular(path)


def test_a_link_that_a_user_names_may_be_followed_and_its_fifo_is_still_refused(tmp_path):
    (tmp_path / "x").write_text("x")
    (tmp_path / "to x").symlink_to("x")
    assert open_regular(tmp_path / "to x", follow_links=True).read() == b"x"
    os.mkfifo(tmp_path / "y")
    (tmp_path / "to y").symlink_to("y")
    with pytest.raises(UnsafeFileError, match="to y is not read: it is a FIFO"):
        open_regular(tmp_path / "to y", follow_links=True)
    with pytest.raises(UnsafeFileError, match="it is a folder"):
        open_regular(tmp_path)
    with pytest.raises(UnsafeFileError, match="/dev/zero is not read: it is a device"):
        open_regular(Path("/dev/zero"))


def test_what_is_planted_between_the_look_and_the_opening(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("a user's own")
    looked = os.stat

    def plant_after(path: object, **options: object) -> os.stat_result:
        try:
            return looked(path, **options)
        finally:
            (tmp_path / "c").symlink_to(victim)

    monkeypatch.setattr(os, "stat", plant_after)
    with pytest.raises(OSError, match="symbolic link"):
        open_regular(tmp_path / "c", "ab")


def test_appended_to_and_changed_in_place(tmp_path):
    for part in (b"a", b"b"):
        with open_regular(tmp_path / "x", "ab") as file:
            file.write(part)
    with open_regular(tmp_path / "x", "r+b") as file:
        file.write(b"c")
    with open_regular(tmp_path / "x", "a+b") as file:
        file.write(b"d")
        file.seek(0)
        assert file.read() == b"cbd"
    for mode in ("rb", "r+b"):
        with pytest.raises(FileNotFoundError):
            open_regular(tmp_path / "y", mode)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EIO, "the disk failed"),
        (errno.ESTALE, "the network file system lost it"),
        (errno.EROFS, "its file system is read-only"),
        (errno.EACCES, "Permission denied"),
    ],
)
@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_failing_disk_is_a_sentence_and_the_old_file_stays(
    tmp_path, monkeypatch, code, sentence, call
):
    path = tmp_path / "x"
    path.write_text("old")

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("builtins.open" if call == "open" else f"os.{call}", fail)
    with pytest.raises(WriteError, match=f"/x cannot be written: {sentence}"):
        atomic_write(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def fail_on_folders(monkeypatch: pytest.MonkeyPatch, code: int) -> list[str]:
    """Let the fsync of a folder fail; return the list of the folders that were asked for."""
    asked, fsync = [], os.fsync

    def fail(descriptor: int) -> None:
        if not os.path.isdir(f"/proc/self/fd/{descriptor}"):
            return fsync(descriptor)
        asked.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        if code:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    return asked


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF])
def test_a_file_system_that_cannot_sync_folders_stops_nobody(tmp_path, monkeypatch, code):
    asked = fail_on_folders(monkeypatch, code)
    atomic_write(tmp_path / "deep" / "x", "new")
    assert (tmp_path / "deep" / "x").read_text() == "new"
    assert asked == [str(tmp_path), str(tmp_path / "deep")]


def test_a_disk_that_fails_to_sync_a_folder_does(tmp_path, monkeypatch):
    fail_on_folders(monkeypatch, errno.EIO)
    with pytest.raises(WriteError, match="x cannot be written: the disk failed"):
        atomic_write(tmp_path / "x", "new")


def test_the_parents_of_new_folders_are_forced_to_disk(tmp_path, monkeypatch):
    asked = fail_on_folders(monkeypatch, 0)
    make_folder(tmp_path / "a" / "b" / "c")
    assert asked == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")]
    make_folder(tmp_path / "a" / "b" / "c")
    assert len(asked) == 3
    (tmp_path / "file").touch()
    for path in ("file", "file/folder"):
        with pytest.raises(WriteError, match=f"{path} cannot be written: something"):
            make_folder(tmp_path / path)
    with pytest.raises(WriteError, match="/proc/a/b cannot be written: No such file"):
        make_folder(Path("/proc/a/b"))


class TestOnce:
    def test_only_the_first_writes(self, tmp_path):
        path = tmp_path / "deep" / "claim"
        assert write_once(path, "first")
        assert not write_once(path, "second")
        assert path.read_text() == "first"
        assert os.listdir(path.parent) == ["claim"]
        assert path.stat().st_nlink == 1

    def test_it_does_without_links(self, tmp_path, monkeypatch):
        def none(*_: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", none)
        assert write_once(tmp_path / "claim", "first")
        assert not write_once(tmp_path / "claim", "second")
        assert (tmp_path / "claim").read_text() == "first"
        assert os.listdir(tmp_path) == ["claim"]

    def test_a_full_disk_is_named(self, tmp_path, monkeypatch):
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "link", full)
        with pytest.raises(WriteError, match=r"claim cannot be written: the disk is full"):
            write_once(tmp_path / "claim", "first")
        assert os.listdir(tmp_path) == []

    def test_who_has_ended(self, tmp_path):
        file, own = tmp_path / "claim", process_name()
        file.touch()
        assert not is_abandoned(own, file)
        host, process, started, rest = own.split("-")
        assert is_abandoned(f"{host}-{process}-{int(started) + 1}-{rest}", file)
        assert is_abandoned(f"{host}-4194305-1-{rest}", file)
        elsewhere = f"{'0' * 8}-{process}-{started}-{rest}"
        assert not is_abandoned(elsewhere, file, 60)
        os.utime(file, (1, 1))
        assert is_abandoned(elsewhere, file, 60)
        assert is_abandoned("something else", file, 60)
