"""Single bits flipped in what commands keep: refused, or served as if nothing had happened.

`flip` runs in a process of the zygote. It reads each damaged thing as users' commands do, and
compares part by part with what the undamaged one gives.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from data import cache
from data.cache import ShardStore
from data.cache.seal import USER_BLOCK, Seal
from data.errors import HeliographError
from tests.helpers.caches import MADE_WITH, clips, extract, features, full, outcomes
from tests.robustness.reading import hashed, served

VERSION_2_ONLY = (
    "start", "end", "block_xxh3", "content_sha256", "thumbnails", "thumbnails_sha256",
    "without_thumbnails",
)  # fmt: skip

Parts = Mapping[str, str]


@dataclass(frozen=True)
class Artefact:
    """Something on disk that is read again.

    Attributes:
        make: Makes it in the current folder.
        files: A pattern of the files in which a bit is flipped.
        read: Returns what a reader gets, part by part: a hash, or `refused: ...`.
        spare: A part that is not of the flipped content, and may differ.
    """

    make: Callable[[], object]
    files: str
    read: Callable[[], Parts]


def _cache() -> None:
    cache.save(features(), Path("c.h5"))


def _version_1() -> None:
    _cache()
    make_version_1(Path("c.h5"))


def _oldest() -> None:
    _cache()
    make_version_1(Path("c.h5"), without=("features_sha256", "source_sha256", "key"))


def make_version_1(path: Path, without: tuple[str, ...] = ()) -> None:
    """Rewrite a cache as schema version 1 has it, without some columns."""
    with open(path, "r+b") as file:
        file.write(bytes(USER_BLOCK))
    with h5py.File(path, "r+") as file:
        for name in (*VERSION_2_ONLY, *without):
            if name in file:
                del file[name]
        for label in file["labels"].values():
            for name in list(label.attrs):
                del label.attrs[name]
        del file.attrs["rows_per_block"]
        file.attrs["schema_version"] = np.int64(1)
        rows = file["features"]
        start = rows.id.get_offset()
        stop = start + rows.id.get_storage_size()
    content = path.read_bytes()
    rest = content[USER_BLOCK:start] + content[stop:]
    seal = Seal(
        len(content) - USER_BLOCK,
        (start, stop),
        hashlib.sha256(rest).hexdigest(),
        sha256=hashlib.sha256(content[USER_BLOCK:]).hexdigest(),
    )
    with open(path, "r+b") as file:
        file.write(seal.user_block())


def _read_cache() -> Parts:
    path = Path("c.h5")

    def content(mapped: bool) -> object:
        read = cache.load(path, mapped=mapped)
        values = np.asarray(read.features[:])
        columns = [getattr(read, name) for name in ("clip_id", "object", "scenario", "key")]
        numbers = [read.frame_index.tobytes(), read.pts_seconds.tobytes()]
        labels = [(name, column.tobytes()) for name, column in sorted(read.labels.items())]
        made = [read.fingerprint, read.sampler, read.decoder, read.failures]
        return values.tobytes(), columns, numbers, labels, made, read.source_sha256

    def verified() -> object:
        problems = cache.verify(path)
        if problems:
            raise HeliographError(str(problems[0]))
        return "sound"

    def merged() -> object:
        cache.merge([path, Path("other.h5")], Path("merged.h5"))
        return cache.load(Path("merged.h5")).features.tobytes()

    if not Path("other.h5").exists():
        cache.save(features(prefix="other", seed=5), Path("other.h5"))
    Path("merged.h5").unlink(missing_ok=True)
    return {
        "load": hashed(lambda: content(mapped=False)),
        "mapped": hashed(lambda: content(mapped=True)),
        "info": hashed(lambda: {k: v for k, v in cache.info(path).items() if k != "created"}),
        "merge": hashed(merged),
        "verify": hashed(verified),
    }


def _shards() -> None:
    with ShardStore(Path("c.h5"), **MADE_WITH) as store:
        for start in range(0, 12, 2):
            extract(store, clips(2, start=start))
            store.flush()


def _read_shards() -> Parts:
    """What the next extraction makes of the shards: it computes damaged ones again."""

    def finished() -> object:
        full(Path("c.h5"))
        read = cache.load(Path("c.h5"))
        return read.features.tobytes(), read.clip_id, read.object, read.labels["mass"].tobytes()

    found = {"next extraction": hashed(finished)}
    if Path("c.h5").exists():
        assert outcomes(Path("c.h5"))["done"] <= 15, "more than two shards computed again"
    return found


def _run() -> None:
    from pipeline.training import train
    from tests.helpers.features import make_features

    cache.save(make_features(objects=9, each=2, dim=6), Path("learn.h5"))
    train(
        "learn.h5", "run", properties=["mass"], seeds=2, epochs=2, device="cpu", hidden_dim=8,
        vocab=4,
    )  # fmt: skip


def _read_run() -> Parts:
    return served("run")


def _unfinished() -> None:
    from data.files import WriteError
    from pipeline.training import train as training

    _run()
    shutil.copytree("run", "whole")
    shutil.rmtree("run")
    module = __import__("pipeline.training.train", fromlist=["write_run"])
    write_run = module.write_run

    def stop(*given: object, **named: object) -> None:
        raise WriteError("stopped")

    module.write_run = stop
    try:
        training("learn.h5", "run", **RESUMED)  # type: ignore[arg-type]
    except WriteError:
        pass
    finally:
        module.write_run = write_run
    Path("made").write_text("")


RESUMED = {
    "properties": ["mass"], "seeds": 2, "epochs": 2, "device": "cpu", "hidden_dim": 8, "vocab": 4,
}  # fmt: skip


def _read_unfinished() -> Parts:
    from pipeline.training import train

    def resumed() -> object:
        train("learn.h5", "run", resume=True, **RESUMED)  # type: ignore[arg-type]
        return served("run")

    return {"resumed": hashed(resumed)}


ARTEFACTS: dict[str, Artefact] = {
    "cache": Artefact(_cache, "c.h5", _read_cache),
    "cache of version 1": Artefact(_version_1, "c.h5", _read_cache),
    "cache of the oldest version": Artefact(_oldest, "c.h5", _read_cache),
    "shards": Artefact(_shards, "c.h5.parts/*.h5", _read_shards),
    "run": Artefact(_run, "run/**/*", _read_run),
    "resumed training": Artefact(_unfinished, "run/unfinished/*", _read_unfinished),
}


def flip(name: str, seed: int, count: int) -> dict[str, object]:
    """Flip a bit in an artefact, `count` times, each time anew.

    Returns:
        How often each thing happened, and `faults`: descriptions of what must not.
    """
    artefact = ARTEFACTS[name]
    artefact.make()
    kept = Path.cwd().with_name("kept")
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(Path.cwd(), kept)
    sound = artefact.read()
    choice = random.Random(f"{name} {seed}")
    counts: Counter[str] = Counter()
    faults: list[str] = []
    for _ in range(count):
        _restore(kept)
        files = sorted(path for path in Path().glob(artefact.files) if path.is_file())
        path = choice.choice(files)
        content = bytearray(path.read_bytes())
        place, bit = choice.randrange(len(content)), choice.randrange(8)
        content[place] ^= 1 << bit
        path.write_bytes(content)
        what = f"bit {bit} of byte {place} of {path}"
        try:
            found = artefact.read()
        except Exception:
            faults.append(f"{what}: {traceback.format_exc()}")
            continue
        differ = [part for part in {*found, *sound} if found.get(part) != sound.get(part)]
        wrong = [part for part in differ if not found.get(part, "refused").startswith("refused")]
        if wrong:
            faults.append(f"{what}: other {wrong} served")
        for part in differ:
            if "\n" in found.get(part, ""):
                faults.append(f"{what}: {part}: not one sentence: {found[part]}")
        counts["refused" if differ else "as before"] += 1
        if name.startswith("cache") and "verify" not in differ:
            faults.append(f"{what}: verify finds nothing")
    return {"counts": dict(counts), "faults": faults}


def _restore(kept: Path) -> None:
    for path in Path().iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(kept, Path(), dirs_exist_ok=True)


def swap(seed: int, count: int) -> list[str]:
    """Swap the names of two shards, `count` times; return what of it was served."""
    artefact = ARTEFACTS["shards"]
    artefact.make()
    kept = Path.cwd().with_name("kept")
    shutil.copytree(Path.cwd(), kept)
    sound = artefact.read()
    choice = random.Random(seed)
    faults = []
    for _ in range(count):
        _restore(kept)
        one, other = choice.sample(sorted(Path().glob(artefact.files)), 2)
        one.rename("swapped")
        other.rename(one)
        Path("swapped").rename(other)
        found = artefact.read()
        if found != sound:
            faults.append(f"{one.name} and {other.name} swapped: {found}")
    return faults
