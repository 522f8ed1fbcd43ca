"""The command under faults: killed, interrupted, run twice at once, on a full disk, many clips.

These run `heliograph extract` as a process of its own, with the backbone that is installed with its
weights; where it is not, they skip. The full numbers are soak tests; the slow ones are a sample.
"""

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from backbones import efficientnet, weights
from data import cache
from tests.helpers.films import make_film

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
BACKBONE = "efficientnet_lite0"
CLIPS = 24
ONE_A_SHARD = """
from data.cache import batches
from pipeline.cli import main
batches.BATCH_CLIPS = 1
main()
"""
RUN = [sys.executable, "-c", ONE_A_SHARD]


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    if weights.find(efficientnet.PUBLISHED, None) is None:
        pytest.skip("needs the package with the weights of efficientnet_lite0")
    folder = tmp_path_factory.mktemp("films")
    for number in range(CLIPS):
        make_film(folder / f"{number:03d}.mp4", number, frames=6)
    return folder


def command(films: Path, target: Path, *words: str) -> list[str]:
    start = [*RUN, "extract", str(films), "-o", str(target), "--backbone", BACKBONE]
    return [*start, "--frames", "2", "--device", "cpu", *words]


def finish(films: Path, target: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(films, target, *words), capture_output=True, text=True, timeout=300
    )


def start(films: Path, target: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(films, target), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def shards(target: Path) -> list[Path]:
    return list(target.with_name(target.name + ".parts").glob("[0-9a-f]*.h5"))


def wait_for_shards(target: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until the extraction has that many of its clips, or has ended."""
    end = time.monotonic() + 300
    while len(shards(target)) < count and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(films, tmp_path_factory) -> cache.Features:
    """What an extraction gives that nothing disturbs."""
    target = tmp_path_factory.mktemp("whole") / "c.h5"
    done = finish(films, target)
    assert done.returncode == 0, done.stderr
    return cache.load(target)


def check_ledger(target: Path) -> None:
    """Each committed clip was computed once; a kill between shard and line costs that line only."""
    lines = cache.read_ledger(target)
    done = Counter(line["clip"] for line in lines if line["outcome"] == "done")
    assert max(done.values(), default=1) == 1, done
    kept = Counter(line["clip"] for line in lines if line["outcome"] == "kept")
    assert set(done) | set(kept) == {f"{number:03d}.mp4" for number in range(CLIPS)}


@pytest.mark.parametrize(
    ("kills_wanted", "seed"), [(3, 1), pytest.param(20, 0, marks=pytest.mark.soak)]
)
def test_killed_again_and_again_and_then_finished(films, whole, tmp_path, kills_wanted, seed):
    """Twenty kills take two minutes: the command loads torch, and is killed at any time after."""
    choice, target = random.Random(seed), tmp_path / "c.h5"
    moments: Counter[str] = Counter()
    kills = 0
    while kills < kills_wanted:
        process = start(films, target)
        reached = choice.randrange(CLIPS + 1)
        wait_for_shards(target, min(CLIPS, len(shards(target)) + choice.randrange(4)), process)
        time.sleep(choice.uniform(0, 0.15) if reached % 3 else choice.uniform(0, 4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        moments["finished" if target.exists() else f"{len(shards(target))} clips"] += 1
        for shard in shards(target):
            assert cache.verify(shard) == []
        if target.exists():
            assert cache.load(target).differences(whole) == []
            check_ledger(target)
            target.unlink()
            cache.ledger_path(target).unlink()
    done = finish(films, target, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["done"] + summary["kept"] == CLIPS
    assert cache.load(target).differences(whole) == []
    assert cache.verify(target) == []
    check_ledger(target)
    print(dict(moments))


def test_no_decoder_outlives_a_killed_command(films, tmp_path):
    process = start(films, tmp_path / "c.h5")
    wait_for_shards(tmp_path / "c.h5", 2, process)
    decoders = [
        int(path.name)
        for path in Path("/proc").glob("[0-9]*")
        if f"PPid:\t{process.pid}\n" in _status(path)
    ]
    process.kill()
    process.communicate()
    assert decoders
    end = time.monotonic() + 10
    while any(_alive(number) for number in decoders) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(_alive(number) for number in decoders)


def _status(path: Path) -> str:
    try:
        return (path / "status").read_text()
    except OSError:
        return ""


def _alive(number: int) -> bool:
    status = _status(Path("/proc") / str(number))
    return bool(status) and "State:\tZ" not in status


def test_ctrl_c_ends_with_what_is_done(films, whole, tmp_path):
    target = tmp_path / "c.h5"
    process = start(films, target)
    wait_for_shards(target, 5, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"of {CLIPS} clips finished: run the same command again to go on" in errors
    assert "Traceback" not in errors
    found = cache.load(target)
    assert 5 <= len(found) < CLIPS
    assert cache.verify(target) == []
    rows = [whole.clip_id.index(clip) for clip in found.clip_id]
    assert found.features.tobytes() == whole.select(rows).features.tobytes()
    done = finish(films, target)
    assert done.returncode == 0, done.stderr
    assert f"{len(found)} kept" in done.stderr
    assert cache.load(target).differences(whole) == []
    check_ledger(target)


def test_two_extractions_into_one_cache(films, whole, tmp_path):
    target = tmp_path / "c.h5"
    first = start(films, target)
    wait_for_shards(target, 1, first)
    first.send_signal(signal.SIGSTOP)  # so that it is still at work when the second one starts
    second = finish(films, target)
    first.send_signal(signal.SIGCONT)
    _, errors = first.communicate(timeout=120)
    assert first.returncode == 0, errors
    assert second.returncode == 1
    assert f"{target} is being written by process {first.pid} on " in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1
    assert cache.load(target).differences(whole) == []


@pytest.mark.parametrize(
    ("bytes_free", "says"),
    [(2_000, "ledger.jsonl"), (40_000, "c.h5 cannot be written")],
    ids=["ledger", "consolidated file"],
)
def test_a_full_disk_is_one_sentence_and_costs_nothing(films, whole, tmp_path, bytes_free, says):
    """A file that may not grow further fails as a full disk does."""
    target = tmp_path / "c.h5"
    early = tmp_path / "early"
    early.mkdir()
    for film in sorted(films.iterdir())[:3]:
        shutil.copy(film, early)
    assert finish(early, target).returncode == 0
    before = target.read_bytes()
    process = subprocess.run(
        command(films, target),
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_free, bytes_free)),
    )
    assert process.returncode == 1, process.stderr
    assert str(target) in process.stderr.splitlines()[-1]
    assert says in process.stderr.splitlines()[-1]
    assert "Traceback" not in process.stderr
    assert target.read_bytes() == before
    assert finish(films, target).returncode == 0
    assert cache.load(target).differences(whole) == []


def test_ctrl_c_in_a_repair_leaves_the_cache_and_what_is_done_to_the_next(films, tmp_path):
    target = tmp_path / "c.h5"
    assert finish(films, target).returncode == 0
    sound = cache.load(target)
    content = bytearray(target.read_bytes())
    at = content.index(sound.features[0].tobytes())
    row = sound.features[0].nbytes
    for number in range(CLIPS):
        content[at + number * row] ^= 1
    target.write_bytes(content)
    assert len({problem.clip for problem in cache.verify(target)} - {None}) == CLIPS
    repair = [*RUN, "cache", "verify", str(target), "--repair"]
    process = subprocess.Popen(repair, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_shards(target, 3, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert target.read_bytes() == content
    again = subprocess.run(repair, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    kept = re.findall(r"(\d+) kept", again.stderr)
    assert 3 <= int(kept[-1]) < CLIPS
    assert cache.load(target).differences(sound) == []


@pytest.mark.parametrize("counts", [(50, 300), pytest.param((200, 2000), marks=pytest.mark.soak)])
def test_memory_does_not_grow_with_the_number_of_clips(tmp_path, counts):
    """Peak memory for many clips is within 10 % of that for a few; 2,000 take two minutes.

    The whole flow, with a tiny backbone: decoders, queue, writer, consolidation.
    """
    code = """
import resource, sys
from pathlib import Path
from tests.helpers.tiny_backbone import build_tiny
from backbones import LoadOptions
from data.clips import Clip
from data.video import Sampling
from pipeline.extraction import extract
import torch
torch.set_num_threads(1)
film, target, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
options = LoadOptions(device=torch.device("cpu"), precision="fp32", weights=None, hub_dir=None,
                      preprocess="official", output=None)
model = build_tiny(options)
# One file with other start times: each clip has another key.
clips = [Clip(id=f"{n:05d}", path=film, start=n * 1e-7) for n in range(count)]
summary = extract(clips, target, backbone=model, sampling=Sampling(frames=2), workers=2)
assert summary.done == count, summary
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    make_film(tmp_path / "film.mp4", 0, frames=6)
    peaks = []
    for count in counts:
        arguments = [str(tmp_path / "film.mp4"), str(tmp_path / f"{count}.h5"), str(count)]
        out = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert out.returncode == 0, out.stderr
        peaks.append(int(out.stdout))
    assert peaks[1] <= 1.1 * peaks[0], peaks
