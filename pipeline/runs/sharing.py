"""Runs that travel: a copy for others without what is the user's own, a checked copy of theirs.

What a run holds of the user's machine is where its caches are, which clips and objects there are,
and what files are called. A copy for others has the names of files alone, and numbers in place of
clips and objects; it is written from what the files of the run mean, never from their bytes, so
that what else somebody put into one does not travel.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors.torch

from data.errors import HeliographError
from data.files import absolute, hub_address, path_of
from pipeline.dataset import CacheSource
from pipeline.runs.manifest import CONTROL, MANIFEST, NULL, RunFiles
from pipeline.runs.parsing import parse_object, parse_weights
from pipeline.runs.replacement import FILES, held, is_unsettled, new_run, refuse_existing
from pipeline.runs.run import SCHEMA_VERSION, Run, json_text
from pipeline.runs.writer import history_text, saved_weights

PATTERNS = (*FILES, MANIFEST, "seeds/*", f"{NULL}/*", f"{CONTROL}/*")
"""What travels of a run, as patterns of names in a repository: not the page, which shows clips."""

_TRAVELS = re.compile(rf"((seeds|{NULL})/[0-9]+/)?({'|'.join(map(re.escape, FILES))})")
_LINE = ("message", "tokens", "values", "part", "labels")  # of messages.jsonl, beside the names
_ABSOLUTE = re.compile(r"(?<![\w/:.~])~?(?:/[^\s/'\",;:()\[\]]+)+/?")
_SENTENCES = ("notes", "missing_baselines", "examples")
_SHORTEST_NAME = 3  # of a clip or object in a sentence; a shorter one tells nothing


def write_shared(run: Run, folder: Path, *, with_ids: bool = False) -> Run:
    """Write a copy of a run for others into an empty folder, with a manifest of its own.

    Args:
        run: The run.
        folder: Of the copy.
        with_ids: Whether clips and objects keep their names.

    Raises:
        HeliographError: A file of the run is missing or damaged.
    """
    names = OwnNames(run, with_ids=with_ids)
    control = run.control()
    parts = [run] if control is None else [run, control]
    weights: dict[tuple[int, str], dict[str, Any]] = {}
    for number, part in reversed(list(enumerate(parts))):
        files = RunFiles.new(folder / CONTROL if number else folder)
        files.write("config.json", json_text(_description(part, names)))
        for place in ("", *(f"seeds/{seed}/" for seed in part.seeds)):
            own = part.of_seed(int(place.split("/")[1])) if place else part
            if not own.has("model.safetensors"):
                continue
            flat = parse_weights(part.files.read(f"{place}model.safetensors"))
            files.write(f"{place}model.safetensors", safetensors.torch.save(flat))
            weights[number, place] = _by_part(flat)
            if own.has("model.pt"):
                both = weights[number, place] | weights.get((number + 1, place), {})
                files.write(f"{place}model.pt", saved_weights(both))
            if own.has("messages.jsonl"):
                files.write(f"{place}messages.jsonl", _messages(own, names))
            if place and own.has("metrics.json"):
                stored = parse_object(part.files.read(f"{place}metrics.json"))
                files.write(f"{place}metrics.json", json_text(names.without(stored)))
        for null in part.null:
            place = null.folder.relative_to(part.folder).as_posix()
            files.write(f"{place}/messages.jsonl", _messages(null, names))
        if part.has("history.csv"):
            files.write("history.csv", history_text(part.history()))
        for name in ("lexicon.json", "readout.json"):
            if (learnt := part.stored_object(name)) is not None:
                text = json.dumps(names.without(learnt), indent=1, ensure_ascii=False)
                files.write(name, text + "\n")
        files.write("metrics.json", json_text(names.metrics(part.metrics().to_json())))
        files.seal()
    return Run.open(folder)


def copy_run(source: Path, out: Path, *, pulled_from: str, overwrite: bool = False) -> Run:
    """Make a run folder of a run from elsewhere, whose files are all checked by its manifest.

    Args:
        source: Its folder.
        out: The run folder.
        pulled_from: The address that it came from, which `metrics.json` records.
        overwrite: Replace a run that is in the folder.

    Raises:
        HeliographError: It is no run, has no manifest, or is not what that says.
    """
    if is_unsettled(out):
        with held(out):
            pass
    if not overwrite:
        refuse_existing(out)
    run = Run.open(source)
    control = run.control()
    parts = {"": run} if control is None else {"": run, CONTROL: control}
    with held(out), new_run(out) as new:
        for place, part in parts.items():
            if part.files.entries is None:
                raise HeliographError(
                    f"{pulled_from} has no {MANIFEST}, by which its files could be checked: "
                    "`heliograph hub push` writes one"
                )
            files = RunFiles.new(new / place)
            files.id = part.id or files.id
            for name in filter(_TRAVELS.fullmatch, part.files.entries):
                content = part.files.read(name)
                if name == "metrics.json" and not place:
                    metrics = part.metrics().with_keys({"pulled_from": pulled_from})
                    content = json_text(metrics.to_json()).encode()
                files.write(name, content)
            files.seal()
    return Run.open(out)


class OwnNames:
    """What the user calls things, and what others read in its place.

    Args:
        run: The run that is shared.
        with_ids: Whether clips and objects keep their names.
    """

    def __init__(self, run: Run, *, with_ids: bool) -> None:
        self._run, self._with_ids = run, with_ids
        self._clips: dict[str, str] = {}
        self._objects: dict[str, str] = {}
        if run.has("messages.jsonl"):
            for line in run.messages():
                self.clip(line["clip"])
                self.object(line["object"])

    def clip(self, name: str) -> str:
        """Return what a clip is called."""
        return name if self._with_ids else _numbered(self._clips, name, "clip")

    def object(self, name: str | None) -> str | None:
        """Return what an object is called; one that is not known stays so."""
        return name if self._with_ids or not name else _numbered(self._objects, name, "object")

    def metrics(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of a `metrics.json`."""
        cleaned: dict[str, Any] = self.without(stored)
        if stored.get("leaks") and not self._with_ids:
            cleaned["leaks"]["examples"] = []
        if stored.get("transfer"):
            renamed: dict[str, Any] = {}
            for path, other in cleaned["transfer"].items():
                _add(renamed, PurePosixPath(path).name, other)
            cleaned["transfer"] = renamed
        for name in ("imported_from", "pulled_from"):
            if stored.get(name):
                cleaned[name] = published_name(stored[name])
        if stored.get("control"):
            cleaned["control"] = self.metrics(stored["control"])
        return cleaned

    def without(self, value: Any, *, is_sentence: bool = False) -> Any:
        """Return JSON without the user's paths, and sentences in it without the user's names."""
        match value:
            case Mapping():
                return {
                    self.text(key): self.without(item, is_sentence=is_sentence or key in _SENTENCES)
                    for key, item in value.items()
                }
            case list() | tuple():
                return [self.without(item, is_sentence=is_sentence) for item in value]
            case str():
                return self.sentence(value) if is_sentence else self.text(value)
        return value

    def text(self, text: str) -> str:
        """Return text in which each absolute path is the name of a file."""
        for path, name in self._paths:
            text = text.replace(path, name)
        return _ABSOLUTE.sub(lambda found: PurePosixPath(found[0]).name, text)

    def sentence(self, text: str) -> str:
        """Return text without paths, and with numbers in place of clips, objects and this host."""
        text = self.text(text)
        named = [re.escape(name) for name in self._in_sentences if name in text]
        if not named:
            return text
        pattern = rf"(?<!\w)(?:{'|'.join(named)})(?!\w)"
        return re.sub(pattern, lambda found: self._in_sentences[found[0]], text)

    @cached_property
    def _paths(self) -> list[tuple[str, str]]:
        """Paths that a pattern may miss, as they hold spaces, and what replaces them."""
        places = [*(source.path for source in self._run.sources), self._run.folder, Path.home()]
        named: dict[str, str] = {}
        for place in (path_of(absolute(place)) for place in places):
            named[str(place)] = place.name
            named |= {f"{parent}/": "" for parent in place.parents if parent.name}
        return sorted(named.items(), key=lambda pair: -len(pair[0]))

    @cached_property
    def _in_sentences(self) -> dict[str, str]:
        """Names and what replaces them, the longest first."""
        named = {} if self._with_ids else {**self._objects, **self._clips}
        for clip, other in self._clips.items():
            path = PurePosixPath(clip)
            named |= {part: other for part in (path.name, path.stem) if part not in named}
        named[socket.gethostname()] = "this machine"
        long = [(name, to) for name, to in named.items() if len(name) >= _SHORTEST_NAME]
        return dict(sorted(long, key=lambda pair: -len(pair[0])))


def published_name(origin: str) -> str:
    """Return how others are told of a file: by its address on the Hub, or else by its name.

    >>> published_name("/home/me/phase54b.pt")
    'phase54b.pt'
    >>> published_name("hf://user/name@0123/phase54b.pt")
    'hf://user/name@0123/phase54b.pt'
    >>> published_name("https://lab.org/phase54b.pt?key=secret")
    'phase54b.pt'
    """
    if origin.startswith("hf://"):
        return origin
    return hub_address(Path(origin)) or path_of(origin).name


def _numbered(names: dict[str, str], name: str, kind: str) -> str:
    return names.setdefault(name, f"{kind} {len(names) + 1}")


def _add(entries: dict[str, Any], name: str, entry: Any) -> None:
    """Add an entry under a name, or the name and a number where it is taken."""
    number, free = 1, name
    while free in entries:
        number += 1
        free = f"{name} ({number})"
    entries[free] = entry


def _description(run: Run, names: OwnNames) -> dict[str, Any]:
    """Return the content of a `config.json`."""
    return {
        "schema_version": SCHEMA_VERSION,
        "config": names.without(run.config.to_json()),
        "seeds": list(run.seeds),
        "caches": [names.without(_shared_source(source)) for source in run.sources],
        "versions": names.without(dict(run.versions)),
    }


def _shared_source(source: CacheSource) -> dict[str, Any]:
    return source.to_json() | {"path": source.path.name}


def _messages(run: Run, names: OwnNames) -> str:
    """Return the content of a `messages.jsonl`."""
    lines = []
    for line in run.messages():
        named = {"clip": names.clip(line["clip"]), "object": names.object(line["object"])}
        kept = {key: line[key] for key in _LINE if key in line}
        kept["labels"] = {name: line["labels"][name] for name in run.config.properties}
        lines.append(json.dumps(named | kept))
    return "".join(f"{line}\n" for line in lines)


def _by_part(flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return weights as a checkpoint has them: by part, and then by name."""
    parts: dict[str, dict[str, Any]] = {}
    for name, value in flat.items():
        part, _, own = name.partition(".")
        parts.setdefault(part, {})[own] = value
    return parts
