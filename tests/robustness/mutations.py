"""Hostile files: mutated bytes, and structures that no program of ours writes.

Each function writes one file (or changes one run folder), drawn by a generator of random numbers.
Nothing here is ever executed; `CANARY` is what a hostile pickle would make.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data.cache.seal import USER_BLOCK, Seal

CANARY = "/tmp/heliograph-canary"
HUGE = (2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1, 0, 1, 10**7)


def mutate_bytes(content: bytes, choice: random.Random, start: int = 0) -> bytes:
    """Return content that is changed in one of many ways, from the byte `start` on."""
    changed = bytearray(content)
    size = len(changed)

    def place() -> int:
        return choice.randrange(start, max(start + 1, size))

    def flip() -> None:
        for _ in range(choice.choice((1, 1, 1, 2, 8, 40))):
            changed[place()] ^= 1 << choice.randrange(8)

    def splice() -> None:
        length, source, target = choice.randrange(1, 200), place(), place()
        changed[target : target + length] = changed[source : source + length]

    def cut() -> None:
        del changed[place() :]

    def remove() -> None:
        first = place()
        del changed[first : first + choice.randrange(1, 64)]

    def insert() -> None:
        first = place()
        changed[first:first] = choice.randbytes(choice.randrange(1, 64))

    def blank() -> None:
        first, length = place(), choice.randrange(1, 64)
        changed[first : first + length] = bytes([choice.choice((0, 255))]) * length

    def huge() -> None:
        first = place() // 8 * 8
        kind = choice.choice(["<I", "<Q", ">I", ">Q"])
        number = choice.choice(HUGE) & (2 ** (8 * struct.calcsize(kind)) - 1)
        changed[first : first + struct.calcsize(kind)] = struct.pack(kind, number)

    choice.choice((flip, flip, flip, splice, splice, cut, remove, insert, blank, huge, huge))()
    return bytes(changed)


# Caches


def seal_again(content: bytes, features: tuple[int, int]) -> bytes:
    """Return a file with a seal that matches the bytes, as an attacker would make it."""
    start, stop = (min(max(USER_BLOCK, end), len(content)) for end in features)
    rest = content[USER_BLOCK:start] + content[stop:]
    seal = Seal(len(content) - USER_BLOCK, (start, stop), hashlib.sha256(rest).hexdigest())
    return seal.user_block() + content[USER_BLOCK:]


def _range_of_features(content: bytes) -> tuple[int, int]:
    seal = Seal.read(io.BytesIO(content))  # type: ignore[arg-type]
    return seal.features if seal else (USER_BLOCK, USER_BLOCK)


def mutated_cache(sound: bytes, path: Path, choice: random.Random) -> None:
    """Write a cache that is mutated: as it is, sealed again, or without a seal."""
    features = _range_of_features(sound)
    if choice.random() < 0.4:
        content = _with_structure(sound, choice.choice(STRUCTURES), choice)
        with h5py.File(io.BytesIO(content), "r") as file:
            if isinstance(file.get("features", getlink=True), h5py.HardLink):
                rows = file["features"]
                offset = rows.id.get_offset() if isinstance(rows, h5py.Dataset) else None
                if offset is not None:
                    features = offset, offset + rows.id.get_storage_size()
    else:
        content = mutate_bytes(sound, choice, USER_BLOCK)
    kind = choice.choice(("sealed", "sealed", "sealed", "bare", "bare", "as it is"))
    if kind == "sealed":
        content = seal_again(content, features)
    elif kind == "bare":
        content = bytes(USER_BLOCK) + content[USER_BLOCK:]
    if choice.random() < 0.1:
        content = mutate_bytes(content[:USER_BLOCK], choice) + content[USER_BLOCK:]
    path.write_bytes(content)


def _with_structure(
    sound: bytes, change: Callable[[h5py.File, random.Random], None], choice: random.Random
) -> bytes:
    memory = io.BytesIO(sound)
    with h5py.File(memory, "r+") as file:
        change(file, choice)
    return memory.getvalue()


def _again(file: h5py.File, name: str, **options: Any) -> None:
    if name in file:
        del file[name]
    file.create_dataset(name, **options)


def _any(file: h5py.File, choice: random.Random) -> str:
    return choice.choice(sorted(name for name in file if isinstance(file[name], h5py.Dataset)))


def _external_link(file: h5py.File, choice: random.Random) -> None:
    name = _any(file, choice)
    del file[name]
    file[name] = h5py.ExternalLink(choice.choice(("/etc/passwd", "other.h5", "/dev/zero")), "/x")


def _soft_link(file: h5py.File, choice: random.Random) -> None:
    name = _any(file, choice)
    del file[name]
    file[name] = h5py.SoftLink(choice.choice(("/clip_id", f"/{name}", "/missing", "/labels/mass")))


def _hard_link(file: h5py.File, choice: random.Random) -> None:
    name = _any(file, choice)
    target = file[choice.choice(("labels", "clip_id", "/"))]
    del file[name]
    file[name] = target


def _own_group(file: h5py.File, choice: random.Random) -> None:
    file["labels/again"] = file[choice.choice(("labels", "/"))]


def _external_storage(file: h5py.File, choice: random.Random) -> None:
    _again(
        file, "features", shape=(7, 3, 5), dtype="<f2", external=[("/etc/passwd", 0, 210)],
    )  # fmt: skip


def _virtual(file: h5py.File, choice: random.Random) -> None:
    layout = h5py.VirtualLayout(shape=(7, 3, 5), dtype="<f2")
    layout[:] = h5py.VirtualSource(choice.choice((".", "/etc/passwd")), "features", (7, 3, 5))
    del file["features"]
    file.create_virtual_dataset("features", layout)


def _bomb(file: h5py.File, choice: random.Random) -> None:
    count = choice.choice((10**6, 10**9, 10**12))
    _again(
        file, _any(file, choice), shape=(count, 3, 5), dtype="<f2", chunks=(10**4, 3, 5),
        compression="gzip",
    )  # fmt: skip


def _huge_claim(file: h5py.File, choice: random.Random) -> None:
    shape = choice.choice(((10**12, 3, 5), (7, 2**27, 2**26), (2**40,), (10**7, 1, 1)))
    _again(file, _any(file, choice), shape=shape, dtype=choice.choice(("<f2", "<f8", "S64", "u1")))


def _other_shape(file: h5py.File, choice: random.Random) -> None:
    shape = choice.choice(((), (0,), (7,), (0, 0, 0), (7, 0, 5), (1,) * 20, (7, 3, 5, 2), (3, 2)))
    _again(file, _any(file, choice), data=np.zeros(shape, choice.choice(("<f2", "<i8", "S3"))))


def _other_type(file: h5py.File, choice: random.Random) -> None:
    kinds = (
        h5py.string_dtype(), h5py.vlen_dtype(np.int32), h5py.ref_dtype, h5py.regionref_dtype,
        np.dtype([("a", "<i4"), ("b", "S10")]), h5py.enum_dtype({"a": 1, "b": 2}), ">f8", "c16",
        "V7", "f4", "?", np.dtype(("<f4", (3,))),
    )  # fmt: skip
    _again(file, _any(file, choice), shape=(7,), dtype=choice.choice(kinds))


def _empty(file: h5py.File, choice: random.Random) -> None:
    _again(file, _any(file, choice), data=h5py.Empty("f4"))


def _group(file: h5py.File, choice: random.Random) -> None:
    name = _any(file, choice)
    del file[name]
    file.create_group(name).create_dataset("inner", data=np.zeros(3))


def _deep(file: h5py.File, choice: random.Random) -> None:
    group = file["labels"]
    for _ in range(choice.choice((10, 1500))):
        group = group.create_group("g")


def _many(file: h5py.File, choice: random.Random) -> None:
    for number in range(choice.choice((100, 3000))):
        file["labels"].create_dataset(f"{number}", data=np.zeros(7))


def _names(file: h5py.File, choice: random.Random) -> None:
    name = choice.choice(("\x1b[31m", "a\nb", "\u202egpj", "x" * 30_000, " ", "../../x", "<b>"))
    file["labels"].create_dataset(name, data=np.zeros(7))


def _text(file: h5py.File, choice: random.Random) -> None:
    name = choice.choice(("clip_id", "object", "scenario"))
    value = choice.choice(
        (b"\xff\xfe", b"", b"a\0b", b"\x1b]0;x\x07", b"x" * 10_000, "\u202e".encode(), b"same")
    )
    _again(file, name, data=np.array([value] * 7, f"S{max(1, len(value))}"))


def _json(file: h5py.File, choice: random.Random) -> None:
    values = (
        "[" * 50_000, "{}", "[]", "null", "{", '{"a": NaN}', '{"a": 1e999}', '{"frames": -1}',
        '{"a":' * 5_000 + "1" + "}" * 5_000, "\ud800".encode("utf-8", "surrogatepass"), 5,
        json.dumps({"name": "\x1b[2J" * 100}), json.dumps({"frames": 10**7, "name": "uniform"}),
        "1" * 5_000, np.zeros(3), h5py.Empty("f4"),
    )  # fmt: skip
    name = choice.choice(("fingerprint", "sampler", "decoder", "versions", "created"))
    file.attrs[name] = choice.choice(values)


def _number(file: h5py.File, choice: random.Random) -> None:
    values = (0, -1, 3, 2**62, np.float64("nan"), "two", np.zeros(4), h5py.Empty("f4"), 10**9)
    file.attrs[choice.choice(("schema_version", "rows_per_block"))] = choice.choice(values)


def _missing(file: h5py.File, choice: random.Random) -> None:
    if choice.random() < 0.5:
        del file[choice.choice(sorted(file))]
    else:
        del file.attrs[choice.choice(sorted(file.attrs))]


def _not_finite(file: h5py.File, choice: random.Random) -> None:
    rows = file["features"][()]
    rows[0, 0, 0] = choice.choice((np.nan, np.inf, -np.inf))
    file["features"][...] = rows


def _wild_numbers(file: h5py.File, choice: random.Random) -> None:
    name = choice.choice(("frame_index", "pts_seconds"))
    values = file[name][()]
    values[0] = choice.choice((-(2**63), 2**63 - 1) if name == "frame_index" else (np.inf, -1e308))
    file[name][...] = values


STRUCTURES = (
    _external_link, _soft_link, _hard_link, _own_group, _external_storage, _virtual, _bomb,
    _huge_claim, _other_shape, _other_type, _empty, _group, _deep, _many, _names, _text, _json,
    _number, _missing, _not_finite, _wild_numbers,
)  # fmt: skip


# Pickles


class _Call:
    """Pickled as a call of a function, which reading it must not make."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def _text_of(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode()


def _pickles(choice: random.Random) -> bytes:
    touch = f"touch {CANARY}"
    return choice.choice(
        (
            pickle.dumps(_Call(os.system, touch)),
            pickle.dumps({"features": _Call(eval, f"__import__('os').system('{touch}')")}),
            pickle.dumps(_Call(exec, f"__import__('os').system('{touch}')")),
            b"\x80\x02c__builtin__\ngetattr\ncos\nenviron\nX\x03\0\0\0getq\x00\x86R.",
            b"\x80\x02" + b"]" * 900 + b"a" * 899 + b".",
            b"\x80\x02" + b"(" * choice.choice((10**5, 10**6)) + b".",
            b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
            b"\x80\x02" + b"}" + b"K\x01}" * 10**5 + b"s" * 10**5 + b".",
            b"\x80\x02]" + b"\x94" * 10**6 + b".",
            b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".",
            b"\x80\x02\x8e" + struct.pack("<Q", 2**62) + b"x.",
            b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"x.",
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(tR.",
            b"\x80\x02cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR.",
            b"\x80\x02cnumpy\nndarray\nK\x05\x85\x81J\xff\xff\xff\x7fb.",
            b"\x80\x02ccollections\nOrderedDict\n(" + b"K\x01" * 1000 + b"tR.",
            b"\x80\x02cposix\nsystem\nX" + _text_of(touch) + b"\x85R.",
            b"\x80\x02Q.", b"\x80\x02K\x01Q.", b"\x80\x63.", b".", b"", b"\x80\x02",
            b"\x80\x02h\x05.", b"\x80\x02j\xff\xff\xff\xff.", b"\x80\x02N\x85\x85\x85b.",
        )
    )  # fmt: skip


def mutated_pt(sound: bytes, path: Path, choice: random.Random) -> None:
    """Write a `.pt` file that is mutated: its bytes, its pickle, or its archive."""
    kind = choice.choice(("bytes", "bytes", "pickle", "pickle", "entry", "archive", "whole"))
    if kind == "bytes":
        path.write_bytes(mutate_bytes(sound, choice))
        return
    if kind == "whole":
        path.write_bytes(_pickles(choice))
        return
    with zipfile.ZipFile(io.BytesIO(sound)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    data = next(name for name in entries if name.endswith("data.pkl"))
    if kind == "pickle":
        entries[data] = _pickles(choice)
    elif kind == "entry":
        name = choice.choice((data, data, *entries))
        entries[name] = mutate_bytes(entries[name] or b"\0", choice)
    compression = zipfile.ZIP_STORED
    extra: dict[str, bytes] = {}
    if kind == "archive":
        folder = data.removesuffix("data.pkl")
        compression = choice.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        extra = choice.choice(
            (
                {f"{folder}data/99": bytes(50 << 20)},
                {"../../../tmp/heliograph-canary": b"x"},
                {CANARY: b"x"},
                {data: _pickles(choice)},
                {f"{folder}{number}": b"" for number in range(20_000)},
                {f"{folder}.data/serialization_id": b"1" * 10**6},
                {f"{folder}byteorder": b"big"},
            )
        )
        if choice.random() < 0.3:
            entries.pop(choice.choice(sorted(entries)))
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in [*entries.items(), *extra.items()]:
            archive.writestr(name, content)


# Safetensors


def mutated_safetensors(sound: bytes, path: Path, choice: random.Random) -> None:
    """Write a `.safetensors` file that is mutated: its bytes, or its header."""
    if choice.random() < 0.5:
        path.write_bytes(mutate_bytes(sound, choice))
        return
    (length,) = struct.unpack("<Q", sound[:8])
    header, body = json.loads(sound[8 : 8 + length]), sound[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    one = header[choice.choice(names)]
    change = choice.randrange(12)
    if change == 0:
        one["shape"] = choice.choice(([2**32, 2**32], [-1], [1.5], "x", None, [10**7], [0], []))
    elif change == 1:
        one["dtype"] = choice.choice(("F64", "X", "BOOL", 5, None, "F8_E4M3", "BF16", "I64"))
    elif change == 2:
        one["data_offsets"] = choice.choice(([0, 2**63], [5, 1], [-4, 4], [0], None, [0, 4]))
    elif change == 3:
        header = {**header, "__metadata__": {"x": "y" * 10**6}}
    elif change == 4:
        header = dict.fromkeys(names, header[names[0]])
    elif change == 5:
        header = {"\x1b[31m" + name: value for name, value in header.items()}
    elif change == 6:
        header = choice.choice(({}, [], None, 5, "x"))
    elif change == 7:
        header.pop(choice.choice(names))
    elif change == 8:
        body = np.frombuffer(body[: len(body) // 4 * 4], "<u4").copy()
        body[:] = choice.choice((0x7FC00000, 0x7F800000, 0x7F7FFFFF))  # NaN, infinity, the largest
        body = body.tobytes()
    text = json.dumps(header).encode()
    if change == 9:
        text = b"[" * 10**5
    elif change == 10:
        text = b'{"a":' * 10**5
    size = choice.choice((*HUGE, len(text) + 1, 10**8)) if change == 11 else len(text)
    path.write_bytes(struct.pack("<Q", size) + text + body)


# Arrays


def _npy(header: str, body: bytes, version: bytes = b"\1\0") -> bytes:
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(header) % 2**16)
    return b"\x93NUMPY" + version + size + header.encode() + body


def _npys(sound: bytes, choice: random.Random) -> bytes:
    """Return an `.npy` whose bytes are mutated, or whose header claims what is not so."""
    if choice.random() < 0.5:
        return mutate_bytes(sound, choice)
    kinds = ("<f2", "<f8", "|O", "|V9", "<U4", "S3", "<M8[ns]", "c16", "|b1", "[('a', '<i4')]", "x")
    shapes = ("(7, 3, 5)", "()", "(7,)", "(0, 3, 5)", "(-1, 3)", f"({2**40}, 3, 5)", f"({2**63},)")
    header = choice.choice(
        (
            f"{{'descr': '{choice.choice(kinds)}', 'fortran_order': {choice.choice((True, 5))}, "
            f"'shape': {choice.choice(shapes)}, }}\n",
            "(" * 9_000, "{'descr': " * 900, "", "None\n", "__import__('os').system('true')\n",
        )
    )  # fmt: skip
    body = choice.choice((bytes(210), b"", _pickles(choice)))
    return _npy(header, body, choice.choice((b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\t\0")))


def mutated_npy(sound: bytes, path: Path, choice: random.Random) -> None:
    """Write an `.npy` that is mutated: its bytes, or its header."""
    path.write_bytes(_npys(sound, choice))


def mutated_npz(sound: bytes, path: Path, choice: random.Random) -> None:
    """Write an `.npz` that is mutated: its bytes, an array of it, or its archive."""
    kind = choice.choice(("bytes", "array", "array", "archive"))
    if kind == "bytes":
        path.write_bytes(mutate_bytes(sound, choice))
        return
    with zipfile.ZipFile(io.BytesIO(sound)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = choice.choice(sorted(entries))
    compression, extra = zipfile.ZIP_STORED, {}
    if kind == "array":
        entries[name] = _npys(entries[name], choice)
    else:
        compression = zipfile.ZIP_DEFLATED
        zeros = _npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**26},), }}\n", b"")
        extra = choice.choice(
            (
                {"features.npy": zeros + bytes(200 << 20)},
                {CANARY: b"x"},
                {"../../../tmp/heliograph-canary": b"x"},
                {f"{number}.npy": entries[name] for number in range(2_000)},
                {"\x1b[31m.npy": entries[name]},
            )
        )
        if choice.random() < 0.5:
            del entries[name]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for member, content in (entries | extra).items():
            archive.writestr(member, content)


def mutated_parquet(sound: bytes, path: Path, choice: random.Random) -> None:
    """Write a Parquet file whose bytes are mutated, half of the time those of its footer."""
    (size,) = struct.unpack("<I", sound[-8:-4])
    path.write_bytes(mutate_bytes(sound, choice, choice.choice((0, len(sound) - 8 - size))))


# Run folders


def mutate_run(folder: Path, choice: random.Random) -> None:
    """Change a run folder: a value of its JSON, the bytes of a file, or what a file is."""
    kind = choice.choice(("value",) * 6 + ("bytes",) * 2 + ("thing", "thing", "missing", "huge"))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = choice.choice(files)
    if kind == "value":
        path = choice.choice([path for path in files if path.suffix in (".json", ".jsonl")])
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        number = choice.randrange(len(lines))
        lines[number] = _with_value(json.loads(lines[number]), choice)
        path.write_text("\n".join(lines) + "\n")
    elif kind == "bytes":
        path.write_bytes(mutate_bytes(path.read_bytes(), choice))
    elif kind == "missing":
        path.unlink()
    elif kind == "huge":
        path.write_bytes(path.read_bytes())
        with path.open("r+b") as file:
            file.truncate(choice.choice((10**9, 8 * 10**12)))
    else:
        path.unlink()
        thing = choice.choice(("fifo", "folder", "link", "loop", "device", "zero"))
        if thing == "fifo":
            os.mkfifo(path)
        elif thing == "folder":
            path.mkdir()
        else:
            target = {"link": "/etc/passwd", "loop": path.name, "device": "/dev/zero"}
            path.symlink_to(target.get(thing, "/dev/full"))
    if kind in ("value", "bytes", "missing"):
        hide_change(folder, choice)


def hide_change(folder: Path, choice: random.Random) -> None:
    """Make the manifest of a run match its files, or remove it: then nothing is checked."""
    path = folder / "manifest.json"
    if choice.random() < 0.5 or not path.is_file():
        if path.is_file():
            path.unlink()
        return
    try:
        stored = json.loads(path.read_text())
        for name, entry in stored["files"].items():
            content = (folder / name).read_bytes()
            new = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            stored["files"][name] = [new] if isinstance(entry, list) else new
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    path.write_text(json.dumps(stored))


def _with_value(content: Any, choice: random.Random) -> str:
    """Return JSON in which one value is another."""
    places: list[tuple[Any, Any]] = []

    def collect(value: Any) -> None:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            places.append((value, key))
            if isinstance(inner, dict | list):
                collect(inner)

    if isinstance(content, dict | list):
        collect(content)
    values = (
        10**7, 10**30, -1, 0, 1.5, 1e308, None, True, "", "x", "x" * 10**6, [], {}, [[]], [None],
        "\x1b[2J", "\u202e", "/etc/passwd", "/dev/zero", float("nan"), float("inf"), [10**7],
        {"a": {"a": {}}}, "../../x", list(range(10**5)), 2**63, "<script>alert(1)</script>",
    )  # fmt: skip
    if not places or choice.random() < 0.05:
        return choice.choice(
            ("[" * 10**5, "{" * 5, "null", "[]", "5", '"x"', "NaN", '{"a": 1' * 99)
        )
    where, key = choice.choice(places)
    if choice.random() < 0.2 and isinstance(where, dict):
        del where[key]
    else:
        where[key] = choice.choice(values)
    return json.dumps(content)


def copy_run(source: Path, target: Path) -> None:
    """Put a run in place of another one."""
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target)
