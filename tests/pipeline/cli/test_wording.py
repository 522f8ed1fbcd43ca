"""What a user who goes wrong is told: whole sentences, with what is wrong and what to do next."""

from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from data.cache import save
from tests.helpers.command import run
from tests.helpers.features import make_features
from tests.helpers.films import make_film

EXTRACT = "extract film.mp4 -o x.h5 --backbone efficientnet_lite0"
TRAIN = "train made.h5 -o new"
CHOICES = "clip_vitl14, dinov2_vitb14, dinov2_vitl14, dinov2_vits14, efficientnet_lite0, pixels"

USAGE = {
    "trian": "there is no command 'trian'. Did you mean train?",
    "sing": "there is no command 'sing'.",
    "index physics102": "there is no command 'physics102'. Did you mean physics101?",
    "demo --per-cell 0": ("Invalid value for '--per-cell': 0 is not a whole number of at least 1"),
    "demo --seeds many": "Invalid value for '--seeds': many is not a whole number of at least 1",
    "simulate odd -o out": "no scene 'odd': choose one of collision, fall, ramp, spring",
    "simulate ramp -o out --size 9": (
        "Invalid value for '--size': 9 is not a whole number from 32 to 2048"
    ),
    "index physics101 . -o x.jsonl --scenario odd": (
        "no scenario 'odd': choose one of fall, ramp, spring, all"
    ),
    f"{EXTRACT} --backbone odd": (
        f"no backbone 'odd': choose one of {CHOICES}, vjepa2_vitl, or timm:MODEL for an image "
        "model of timm"
    ),
    f"{EXTRACT} --precision odd": "no precision 'odd': choose one of auto, fp32, bf16, fp16",
    f"{EXTRACT} --device odd": "no device 'odd': choose one of auto, cpu, cuda, cuda:1, ..., mps",
    f"{EXTRACT} --preprocess odd": "no preprocessing 'odd': choose one of official",
    f"{EXTRACT} --sampler odd": (
        "no sampling 'odd': choose one of uniform, uniform-time, fps, window, middle, published"
    ),
    f"{EXTRACT} --sampler fps": "the sampling fps needs a rate (--fps), in frames per second",
    f"{EXTRACT} --fps 3": "a rate (--fps) is for the sampling fps, not for uniform",
    f"{EXTRACT} --fps fast": "Invalid value for '--fps': fast is not a finite number above 0",
    f"{EXTRACT} --stride 2": "a stride (--stride) is for the sampling window, not for uniform",
    f"{EXTRACT} --timeout nan": "Invalid value for '--timeout': nan is not a number above 0",
    "phase87 . -o x.pt --scenario odd": (
        "no scenario 'odd': a file holds one of fall, ramp, spring"
    ),
    "cache merge made.h5 -o x.h5 --part-size 0": (
        "Invalid value for '--part-size': 0 is not a finite number above 0"
    ),
    f"{TRAIN} --vocab 1": "Invalid value for '--vocab': 1 is not a whole number of at least 2",
    f"{TRAIN} --tau-end inf": ("Invalid value for '--tau-end': inf is not a finite number above 0"),
    f"{TRAIN} --preset odd": (
        "no preset 'odd': choose one of published, stabilised, default, ridge"
    ),
    f"{TRAIN} --property odd": "made.h5 has no label 'odd': its labels are mass, volume",
    f"{TRAIN} --split kfold-1": ("kfold-1 leaves no fold to train on: at least 3 folds are needed"),
    f"{TRAIN} --sweep vocab": "--sweep vocab names no values: --sweep vocab=A,B,C",
    f"{TRAIN} --sweep vocb=3": "--sweep has no key 'vocb': did you mean vocab?",
    "compare run run -o c.txt": "--out writes a page, so c.txt must end in .html",
    "report run -o c.txt": "--out writes a page, so c.txt must end in .html",
    f"{TRAIN} --watch c.txt": "--watch writes a page, so c.txt must end in .html",
    f"{TRAIN} --vocb 3": "No such option '--vocb'. Did you mean '--vocab'?",
    "evaluate run --outcome made.h5": ("--outcome and --action go together: give both, or neither"),
    "compare run": "it takes two runs at least to compare",
    "message run made.h5 --every 2": "--every cuts videos, and made.h5 has its clips already",
    "cache export made.h5 -o made.csv": (
        "made.csv has the suffix .csv, which says no format to export to: choose a name that ends "
        "in .pt or .npz or .safetensors or .parquet or .arrow or .lance"
    ),
    "experiment": "name an experiment, or ask for the --list",
}
"""Calls that are wrong as they are typed, and the sentence for each; exit code 2."""

FAILURES = {
    "extract gone.mp4 -o x.h5 --backbone efficientnet_lite0": "gone.mp4 does not exist",
    "train table.csv -o new": (
        "table.csv is not an HDF5 file, so no cache; heliograph extract makes one of clips"
    ),
    "train unlabelled.h5 -o new": (
        "unlabelled.h5 has no labels, so there is nothing to learn: `heliograph cache label` takes "
        "them from a table"
    ),
    "train made.h5 -o run": "run holds a run already: choose another folder, or --overwrite",
    "evaluate made.h5": (
        "made.h5 is no run: it is a cache, so train on it: heliograph train made.h5 -o RUN"
    ),
    "report gone": "gone is no run: there is no such folder",
    "index check ftp://example.org/clips.csv": (
        "ftp://example.org/clips.csv does not exist: it looks like an address; download it, and "
        "name the file"
    ),
    r"cache info C:\caches\a.h5": (
        r"C:\caches\a.h5 does not exist: it looks like a path of Windows; in WSL it is "
        "/mnt/c/caches/a.h5"
    ),
    r"train caches\a.h5 -o new": (
        r"caches\a.h5 does not exist: write it with slashes, caches/a.h5"
    ),
    r"evaluate runs\gone": (
        r"runs\gone is no run: there is no such folder: write it with slashes, runs/gone"
    ),
    r"cache import clips\a.npz -o x.h5": (
        r"clips\a.npz does not exist: write it with slashes, clips/a.npz"
    ),
    "message run film.mp4": (
        "run was trained on imported features of unknown origin, so the same cannot be made from a "
        "new video: import them with --backbone and --frames"
    ),
    "cache info run": "run is no cache: it is a run, and its caches are named in its config.json",
    "cache verify run --repair": (
        "run is no cache: it is a run, and its caches are named in its config.json"
    ),
    "cache info link.h5": "link.h5 does not exist: it is a symbolic link to gone, where nothing is",
    "evaluate link.h5": (
        "link.h5 is no run: there is no such folder: it is a symbolic link to gone, where nothing "
        "is"
    ),
    "extract link.csv -o x.h5 --backbone efficientnet_lite0": (
        "link.csv does not exist: it is a symbolic link to gone, where nothing is"
    ),
    "cache verify empty.h5": (
        "empty.h5 is not sound: 1 problem; move it away (mv empty.h5 empty.h5.damaged), and make "
        "it again with the command that made it (heliograph extract, cache import or cache merge)"
    ),
    "cache verify foreign.h5": "foreign.h5 is not sound: 1 problem",
    "cache verify .": (
        ". is no cache: it is a folder, and not one of parts, which has an index.json"
    ),
    "cache import table.csv -o x.h5": (
        "table.csv: import does not read .csv: export it as .parquet, .safetensors, .npz, .npy, "
        ".h5 or .pt"
    ),
    "cache merge made.h5 other.h5 -o x.h5": (
        "made.h5 and other.h5 do not mix: --backbone is not known in one and 'tiny' in the other"
    ),
    "index check table.csv": "table.csv, line 1: no column 'path' in the header; there is 'a', 'b'",
    "index physics101 gone -o x.jsonl": (
        "gone is no folder, and so is not a Physics 101 tree: `heliograph index physics101 "
        "--describe` says how one is laid out"
    ),
}
"""Calls that fail for what is there, and the sentence for each; exit code 1."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cache, a run on it, caches that do not fit, a film and a table."""
    folder = tmp_path_factory.mktemp("place")
    features = make_features(objects=6, each=2)
    save(features, folder / "made.h5")
    save(replace(features, labels={}), folder / "unlabelled.h5")
    save(replace(features, fingerprint={"name": "tiny"}), folder / "other.h5")
    words = ("--property", "mass", "--preset", "published", "--seeds", 1, "--epochs", 1)
    assert run("train", folder / "made.h5", "-o", folder / "run", *words).exit_code == 0
    make_film(folder / "film.mp4", 1)
    (folder / "table.csv").write_text("a,b\n1,2\n")
    (folder / "empty.h5").touch()
    for suffix in (".h5", ".csv"):
        (folder / f"link{suffix}").symlink_to("gone")
    h5py.File(folder / "foreign.h5", "w").close()
    return folder


@pytest.mark.parametrize("words", USAGE)
def test_a_wrong_call_is_told_what_is_wrong(words, place, monkeypatch):
    monkeypatch.chdir(place)
    shown = run(*words.split())
    assert shown.exit_code == 2, shown.output
    assert shown.stderr.splitlines()[-1] == f"Error: {USAGE[words]}"


@pytest.mark.parametrize("words", FAILURES)
def test_a_failure_is_told_with_what_to_do(words, place, monkeypatch):
    monkeypatch.chdir(place)
    shown = run(*words.split())
    assert shown.exit_code == 1, shown.output
    assert shown.stderr.splitlines()[-1] == f"Error: {FAILURES[words]}"
