"""Trials of a command: disturbed at one moment, looked at, run again, and compared."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from tests.robustness.commands import WritingCommand
from tests.robustness.disk import KILL, TEAR, Call, Fault
from tests.robustness.place import Place, computed
from tests.robustness.zygote import End, Zygote

PASSING = (
    "lock", "*/lock", "*.lock", "*.parts", "*.parts/*", "*.joined", "*.joined/*", "unfinished",
    "*/unfinished*",
)  # fmt: skip
"""What is there only while a command runs, next to what is hidden."""
IGNORED = "manifest.json"
"""Lists the other files of a run; it is checked by reading the run."""
ERRNOS = ("ENOSPC", "EIO", "EACCES", "ENOSYS", "EINVAL", "ESTALE")


@dataclass
class Survey:
    """How a command goes where nothing disturbs it.

    Attributes:
        calls: Those that change the disk.
        before, after: The content of every file.
        published: The contents that each file ever has, by its path.
        served_before, served_after: What a reader gets of its run.
        seconds: That it takes.
        done: How often each clip is computed.
    """

    command: WritingCommand
    place: Place
    calls: Sequence[Call]
    before: Mapping[str, str]
    after: Mapping[str, str]
    published: Mapping[str, set[str]]
    served_before: Mapping[str, str]
    served_after: Mapping[str, str]
    seconds: float
    done: Counter[str]

    @classmethod
    def of(cls, command: WritingCommand, zygote: Zygote, root: Path) -> Survey:
        """Prepare a folder under `root`, and run the command there."""
        place = Place(zygote, root)
        command.prepare(place)
        place.keep()
        before, served_before = place.files(), _served(command, place)
        end = place.command(command.words, published=True)
        assert end.code == 0, end.stderr
        assert end.left == ()
        assert "Traceback" not in end.stderr
        after = place.files()
        published: dict[str, set[str]] = {}
        folder = str(place.folder) + "/"
        for path, content in [
            *((folder + path, content) for path, content in [*before.items(), *after.items()]),
            *end.published,
        ]:
            published.setdefault(path.removeprefix(folder), set()).add(content)
        return cls(
            command, place, end.calls, before, after, published, served_before,
            _served(command, place), end.seconds, computed(place.folder),
        )  # fmt: skip

    def kills(self) -> list[Fault]:
        """Return a kill at each call, and one in the middle of each write."""
        numbers = range(len(self.calls)) if self.command.kills == "each" else self.places()
        if self.command.kills == "random":
            return []
        kills = [Fault(number, KILL) for number in numbers]
        tears = [number for number in numbers if self.calls[number].kind == "write"]
        return [*kills, *(Fault(number, TEAR) for number in tears)]

    def places(self) -> list[int]:
        """Return the number of the first call of each place in the code that changes the disk."""
        first: dict[tuple[str, str], int] = {}
        for number, call in enumerate(self.calls):
            first.setdefault((call.kind, call.place), number)
        return list(first.values())

    def errors(self) -> list[Fault]:
        """Return `errnos` errnos of the command at every place in the code that changes the disk.

        At each place one of them lasts: all later calls fail as well. Of fewer than all, each place
        has other ones than the place before it.
        """
        step = len(ERRNOS) // self.command.errnos
        return [
            Fault(number, ERRNOS[(turn + which * step) % len(ERRNOS)], lasting=which == 0)
            for turn, number in enumerate(self.places())
            for which in range(self.command.errnos)
        ]

    def moments(self, count: int, seed: object) -> Iterator[float]:
        """Yield random moments within the time that the command takes."""
        choice = random.Random(f"{self.command.name} {seed}")
        for _ in range(count):
            yield choice.uniform(0, 1.1 * self.seconds)

    def try_kill(self, kill: Fault | float) -> str:
        """Kill the command, look at what is there, and run it again; return when it was killed."""
        self.place.reset()
        if isinstance(kill, Fault):
            end = self.place.command(self.command.words, fault=kill)
        else:
            end = self.place.command(self.command.words, kill_after=kill)
        if not end.killed:
            self.check_end(end)
            return "finished"
        assert end.left == (), f"still running: {end.left}"
        moment = self.check_state()
        self.check_next_start()
        return moment

    def try_error(self, fault: Fault, *, recover: bool = True) -> str:
        """Make a call fail, look at what is there, and return what the command did.

        With `recover` it is then run again, and must succeed.
        """
        self.place.reset()
        end = self.place.command(self.command.words, fault=fault)
        assert "Traceback" not in end.stderr, end.stderr
        assert not end.hung
        assert end.left == (), f"still running: {end.left}"
        call = self.calls[fault.number]
        tolerated = {"lock": ("ENOSYS",), "sync folder": ("EINVAL", "ENOSYS")}.get(call.kind, ())
        if fault.what in tolerated:
            assert end.code == 0, end.stderr
        if end.code == 0:
            if self.place.files() != self.after:  # a lock that could not be removed
                self.check_state()
                self.check_next_start()
            return "tolerated"
        assert end.code in self.command.codes, (end.code, end.stderr)
        assert end.code != 1 or end.sentence.startswith("Error: "), end.stderr
        assert "\n\n" not in end.stderr.strip(), end.stderr
        # Where a part was done, its table says which.
        self.check_state(but=("*/sweep.csv",) if end.code == 3 else ())
        if recover:
            self.check_next_start()
            return "refused, then done"
        return "refused"

    def check_end(self, end: End) -> None:
        """Raise AssertionError where a run that was not disturbed differs from the first one."""
        assert end.code == 0, end.stderr
        assert self.place.files() == self.after

    def check_state(self, but: tuple[str, ...] = ()) -> str:
        """Raise AssertionError for a file that is torn, or a run of two trainings.

        Those whose path fits a pattern of `but` may have any content.
        """
        files = self.place.files()
        for path, content in files.items():
            hidden = any(part.startswith(".") for part in path.split("/"))
            if (
                hidden
                or path.endswith(IGNORED)
                or any(fnmatch(path, name) for name in (*PASSING, *but))
            ):
                continue
            assert content in self.published.get(path, ()), f"{path} is torn"
        served = {} if files in (self.before, self.after) else _served(self.command, self.place)
        for name in sorted({*served} & {*self.served_before} & {*self.served_after}):
            before, after = self.served_before[name], self.served_after[name]
            assert _is_refusal(served[name]) or served[name] in (before, after), (name, served)
        changed = [
            name for name in served
            if not _is_refusal(served[name])
            and self.served_before.get(name) != self.served_after.get(name)
            and not _is_refusal(self.served_before.get(name, "refused"))
        ]  # fmt: skip
        old = [name for name in changed if served[name] == self.served_before[name]]
        assert old in ([], changed), f"of the old run: {old}; of the new one: {changed}"
        if files == self.before:
            return "before"
        return "after" if files == self.after else "between"

    def check_next_start(self) -> None:
        """Run the command again; raise AssertionError where anything is lost, or left over."""
        end = self.place.command(self.command.second)
        # What was whole is only put into its place, and is then found there.
        assert end.code == 0 or (end.code == 1 and "already" in end.sentence), end.stderr
        assert end.left == ()
        files = self.place.files()
        assert files.keys() == self.after.keys(), sorted(files.keys() ^ self.after.keys())
        different = [path for path in files if files[path] != self.after[path]]
        assert [path for path in different if not path.endswith(IGNORED)] == []
        if different:
            assert _served(self.command, self.place) == self.served_after
        twice = computed(self.place.folder) - self.done
        assert not twice, f"lost, and computed again: {twice}"


def _served(command: WritingCommand, place: Place) -> dict[str, str]:
    if not command.reads:
        return {}
    return place.call("tests.robustness.reading:served", command.reads)


def _is_refusal(part: str) -> bool:
    return part.startswith("refused")
