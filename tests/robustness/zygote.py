"""A process that has imported everything once, and forks for each case: a case takes a moment.

    with Zygote() as zygote:
        end = zygote.command(["cache", "info", "c.h5"], folder, fault=Fault(3, "ENOSPC"))

A case is a `heliograph` command or a function, in a process group of its own, with its output in
memory, its calls that change the disk listed, and a limit of time. What it leaves running is
adopted by the zygote, which waits for it, and names it where it does not end.
"""

from __future__ import annotations

import atexit
import ctypes
import io
import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.robustness.disk import Call, Fault, watch

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 15.0  # seconds that what a case leaves running has to end
PR_SET_CHILD_SUBREAPER = 36
MODULES = (
    "pipeline.cli.cache", "pipeline.experiments", "pipeline.extraction", "pipeline.message",
    "pipeline.report", "pipeline.evaluation", "pipeline.training", "pipeline.runs",
    "data.simulate.rendering", "data.interchange", "data.cache", "data.datasets", "timm", "av",
    "tests.robustness.commands", "tests.robustness.reading", "tests.robustness.hostile",
)  # fmt: skip
STREAMS = ("stdout", "stderr", "calls", "value", "did", "published")
OURS = re.compile(r"data\.|from multiprocessing")
"""What starts the processes that decode, read files from elsewhere, and make clips."""
FORBIDDEN = ("os.system", "os.posix_spawn", "os.exec", "socket.connect", "urllib.Request")


@dataclass(frozen=True)
class Case:
    """What a forked process does.

    Attributes:
        folder: It runs there; calls that change something below it are listed.
        words: Of the command; or
        function: `module:name`, called with `arguments`; what it returns comes back.
        fault: What happens to one of the calls.
        kill_after: Seconds after which the process is killed; None: never.
        seconds: After which it hangs.
        published: Whether to note what is in the files that the case renames to their names.
    """

    folder: str
    words: tuple[str, ...] = ()
    function: str = ""
    arguments: tuple[Any, ...] = ()
    fault: Fault | None = None
    kill_after: float | None = None
    seconds: float = 120.0
    published: bool = False


@dataclass(frozen=True)
class End:
    """How a case ended.

    Attributes:
        code: Exit code; of a signal its negative number.
        hung: It was killed for taking too long.
        value: What the function returned.
        left: Command lines of processes that outlived it and did not end soon after.
        executed: What it did that no file may make it do.
        peak_bytes: The most memory that it had.
        published: Path and content (as `content_of` has it) after each rename.
    """

    code: int
    stdout: str
    stderr: str
    calls: tuple[Call, ...]
    seconds: float
    hung: bool = False
    value: Any = None
    left: tuple[str, ...] = ()
    executed: tuple[str, ...] = ()
    peak_bytes: int = 0
    published: tuple[tuple[str, str], ...] = ()

    @property
    def killed(self) -> bool:
        """Whether it ended by SIGKILL, as asked."""
        return self.code == -signal.SIGKILL and not self.hung

    @property
    def sentence(self) -> str:
        """The last line that it wrote to stderr."""
        lines = self.stderr.strip().splitlines()
        return lines[-1] if lines else ""


class Zygote:
    """The process, as tests see it; use it in a `with` block."""

    def __enter__(self) -> Zygote:
        """Start the process; it is ready for its first case in a few seconds."""
        threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(threads, "1"), "PYTHONPATH": str(ROOT)}
        environment.pop("COLUMNS", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.robustness.zygote"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment,
        )  # fmt: skip
        return self

    def __exit__(self, *exception: object) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def run(self, case: Case) -> End:
        """Run a case and return how it ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        pickle.dump(case, self.process.stdin)
        self.process.stdin.flush()
        end = pickle.load(self.process.stdout)
        if isinstance(end, str):
            raise RuntimeError(end)
        return end

    def command(self, words: Sequence[object], folder: Path, **options: Any) -> End:
        """Run `heliograph WORDS...` in a folder; `options` are fields of `Case`."""
        return self.run(Case(str(folder), words=tuple(map(str, words)), **options))

    def call(self, function: str, *arguments: Any, folder: Path, **options: Any) -> Any:
        """Return what a function returns; RuntimeError with its traceback where it raises."""
        end = self.run(Case(str(folder), function=function, arguments=arguments, **options))
        if end.code:
            raise RuntimeError(f"{function} ended with {end.code}: {end.stderr}")
        return end.value


# The process


def main() -> None:
    """Import everything, then fork for each case that comes in."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    failure = _import_all()
    while True:
        try:
            case = pickle.load(requests)
        except EOFError:
            os._exit(0)  # taking everything down again takes seconds
        pickle.dump(failure or _run(case), answers)
        answers.flush()


def _import_all() -> str:
    try:
        for name in MODULES:
            import_module(name)
        import backbones
        from tests.helpers.tiny_backbone import TINY_ENTRY

        backbones.BACKBONES["tiny"] = TINY_ENTRY  # type: ignore[index]
        if threading.active_count() > 1:
            return f"threads before a fork: {threading.enumerate()}"
    except Exception:
        return traceback.format_exc()
    return ""


def _run(case: Case) -> End:
    files = {name: os.memfd_create(name) for name in STREAMS}
    began = time.monotonic()
    child = os.fork()
    if not child:
        _become(case, files)
    pid_file = os.pidfd_open(child)
    code, hung, peak = _wait(child, pid_file, case)
    os.close(pid_file)
    seconds = time.monotonic() - began
    left = _adopted(child)
    content = {name: _content(descriptor) for name, descriptor in files.items()}
    lines = content["calls"].splitlines()
    return End(
        code=code,
        stdout=content["stdout"].decode(errors="replace"),
        stderr=content["stderr"].decode(errors="replace"),
        calls=tuple(Call(**json.loads(line)) for line in lines),
        seconds=seconds,
        hung=hung,
        value=pickle.loads(content["value"]) if content["value"] else None,
        left=left,
        executed=tuple(content["did"].decode().splitlines()),
        peak_bytes=peak,
        published=tuple(map(tuple, map(json.loads, content["published"].splitlines()))),
    )


def _wait(child: int, pid_file: int, case: Case) -> tuple[int, bool, int]:
    """Wait for a child, kill it when it is time; return code, whether it hung, peak memory."""
    import select

    limit = case.seconds if case.kill_after is None else case.kill_after
    hung = False
    if not select.select([pid_file], [], [], limit)[0]:
        hung = case.kill_after is None
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), hung, usage.ru_maxrss * 1024


def _adopted(group: int) -> tuple[str, ...]:
    """Wait for the processes that a case left behind; kill those that stay, and name them."""
    end = time.monotonic() + PATIENCE
    while True:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        if not children:
            return ()
        if time.monotonic() > end:
            break
        time.sleep(0.005)
    names = []
    for child in children:
        with suppress(OSError):
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            names.append(b" ".join(words).decode(errors="replace"))
            os.kill(int(child), signal.SIGKILL)
            os.waitpid(int(child), 0)
    return tuple(names)


def _content(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    content = os.pread(descriptor, size, 0)
    os.close(descriptor)
    return content


def _become(case: Case, files: Mapping[str, int]) -> None:
    """Run a case; the process ends here, as the command would."""
    code = 70
    try:
        os.setsid()
        os.dup2(files["stdout"], 1)
        os.dup2(files["stderr"], 2)
        os.environ["XDG_CACHE_HOME"] = os.path.join(case.folder, ".cache")
        os.chdir(case.folder)
        random.seed()
        _refuse_execution(files["did"])
        note = _note_published(files["published"]) if case.published else None
        watch([case.folder], files["calls"], case.fault, note)
        try:
            if case.words:
                from pipeline.cli import main as heliograph

                sys.argv = ["heliograph", *case.words]
                heliograph()
            else:
                module, _, name = case.function.partition(":")
                value = getattr(import_module(module), name)(*case.arguments)
                os.pwrite(files["value"], pickle.dumps(value), 0)
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:
            traceback.print_exc()
            code = 1
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
    except BaseException:
        traceback.print_exc(file=io.TextIOWrapper(os.fdopen(2, "wb", closefd=False)))
    finally:
        os._exit(code)


def _note_published(log: int) -> Callable[[str], None]:
    from tests.robustness.place import content_of

    write = os.write

    def note(path: str) -> None:
        found = [Path(path), *(Path(path).rglob("*") if os.path.isdir(path) else ())]
        for each in found:
            write(log, (json.dumps([str(each), content_of(each)]) + "\n").encode())

    return note


def _refuse_execution(log: int) -> None:
    """Note what a file must never bring about: other programs, other machines."""

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            words = list(map(os.fsdecode, arguments[1]))
            if words[:1] == [sys.executable] and any(map(OURS.match, words)):
                return
        elif event not in FORBIDDEN:
            return
        os.pwrite(log, f"{event} {arguments}\n".replace("\n", " ").encode() + b"\n", 0)

    sys.addaudithook(note)


if __name__ == "__main__":
    # What is pickled belongs to the module of this name, not to `__main__`.
    import_module("tests.robustness.zygote").main()
