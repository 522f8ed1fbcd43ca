"""Files of tensors: what hangs, crashes or claims too much is refused in a sentence."""

import io
import os
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from backbones import BackboneError, tensor_files
from data import screening

STATE = {"weight": torch.arange(24.0).reshape(2, 3, 4), "bias": torch.ones(3, dtype=torch.bfloat16)}


def endless_pickle() -> bytes:
    """A dict whose key is a tuple of itself twice, 60 times: hashing it takes 2^60 steps."""
    doubled = b"q\x00h\x00\x86" * 60
    return b"\x80\x02})" + doubled + b"K\x01s."


def archive_of(content: bytes, *, storages: dict[str, bytes] | None = None) -> bytes:
    """A zip file as torch.save writes it, with a pickle of ours."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        zipped.writestr("a/data.pkl", content)
        zipped.writestr("a/version", "3\n")
        for name, text in (storages or {}).items():
            zipped.writestr(f"a/data/{name}", text)
    return packed.getvalue()


def test_files_are_screened_once_and_the_hostile_ones_end_their_process_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, hostile = tmp_path / "good.pth", tmp_path / "hostile.pth"
    torch.save(STATE, good)
    hostile.write_bytes(archive_of(endless_pickle()))
    with monkeypatch.context() as patch:
        patch.setattr(tensor_files, "SECONDS", 1.0)
        with pytest.raises(BackboneError, match=r"hostile\.pth is refused: .* 1 seconds"):
            tensor_files.read(hostile)
    assert set(tensor_files.read(good)) == set(STATE)
    assert screening.is_recorded(tensor_files.identity(good))
    assert not screening.is_recorded(tensor_files.identity(hostile))

    def no_process(*_: object, **__: object) -> None:
        raise AssertionError("a file that was found sound needs no process")

    monkeypatch.setattr(screening, "screen", no_process)
    assert set(tensor_files.read(good)) == set(STATE)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"w": torch.zeros(1).expand(10**9)}, "its tensors claim 4,000,000,000 bytes in a file of"),
        ({"w": torch.zeros(2, dtype=torch.complex64)}, "w is not a plain tensor"),
        ({"w": torch.eye(3).to_sparse()}, "w is not a plain tensor"),
        ({"w": torch.zeros(2, device="meta")}, "w is not a plain tensor"),
        ({"encoder": {"w": torch.zeros(2, device="meta")}}, "w is not a plain tensor"),
        ({("a", "b"): torch.zeros(2)}, "it has a name of type tuple"),
        ({10**99: torch.zeros(2)}, "it has a name of type int"),
    ],
)
def test_tensors_that_are_none_are_refused(tmp_path: Path, state, reason: str) -> None:
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(BackboneError, match=rf"odd\.pth are refused: {reason}"):
        tensor_files.parse(tmp_path / "odd.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"\n<HTML><body>", r"it is a web page \(HTML\), perhaps the login page of a network"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a pointer of Git LFS"),
    ],
)
def test_what_came_in_place_of_weights_is_named(
    tmp_path: Path, suffix: str, content: bytes, reason: str
) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(BackboneError, match=rf"the weights .* cannot be read as tensors: {reason}"):
        tensor_files.read(path)


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> object:
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("content", "name"),
    [(Call(os.system, "true"), "posix.system"), (Call(eval, "1"), "eval")],
)
def test_what_a_file_would_call_is_named_without_advice_to_allow_it(
    tmp_path: Path, zipped: bool, content: Call, name: str
) -> None:
    path = tmp_path / "evil.pth"
    pickled = pickle.dumps({"w": content}, protocol=2)
    path.write_bytes(archive_of(pickled) if zipped else pickled)
    with pytest.raises(BackboneError) as caught:
        tensor_files.parse(path)
    assert str(caught.value).endswith(
        f"it would call {name}, and a file of weights may hold tensors only"
    )


def mutations(number: int, folder: Path, seed: str) -> list[Path]:
    """Write files of tensors with bytes changed, cut or doubled, most of them at the beginning."""
    draw = random.Random(seed)
    torch.save(STATE, folder / "zip.pth")
    torch.save(STATE, folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file(STATE, folder / "safe.safetensors")
    paths = []
    for index in range(number):
        source = folder / ("zip.pth", "old.pth", "safe.safetensors")[index % 3]
        content = bytearray(source.read_bytes())
        for _ in range(draw.choice([1, 1, 2, 8])):
            place = draw.randrange(draw.choice([len(content), min(300, len(content))]))
            kind = draw.randrange(4)
            if kind == 0:
                content[place] ^= 1 << draw.randrange(8)
            elif kind == 1:
                content[place : place + 8] = draw.randbytes(8)
            elif kind == 2:
                del content[place : place + draw.choice([1, 7, 10**6])]
                content += b"\0"
            else:
                content[place:place] = content[place : place + draw.choice([1, 30])]
        paths.append(folder / f"{index}{source.suffix}")
        paths[-1].write_bytes(content)
    return paths


def examine(paths: list[Path]) -> tuple[int, list[str]]:
    """Screen files; read the sound ones here; return their number, and the others' reasons."""
    reasons = screening.screen(paths, tensor_files.CHECKER, memory_bytes=tensor_files.MEMORY_BYTES)
    for path in paths:
        if path not in reasons:
            tensor_files.read(path)
    return len(paths) - len(reasons), list(reasons.values())


def assert_sentences(reasons: list[str]) -> None:
    for reason in reasons:
        assert "\n" not in reason, reason
        assert "weights_only" not in reason, reason
        assert "Traceback" not in reason, reason


def test_mutated_files_are_sound_or_refused_in_a_sentence(tmp_path: Path) -> None:
    sound, reasons = examine(mutations(24, tmp_path, "weights"))
    assert sound + len(reasons) == 24
    assert len(reasons) > 8
    assert_sentences(reasons)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
def test_many_mutated_files(tmp_path: Path, seed: int) -> None:
    sound, reasons = examine(mutations(300, tmp_path, f"soak {seed}"))
    assert sound + len(reasons) == 300
    assert_sentences(reasons)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.pth", "a file of torch.save"),
        ("a.safetensors", "a .safetensors file"),
    ],
)
@pytest.mark.parametrize("damage", ["junk", "short junk", "cut", "cut at its head"])
def test_what_is_no_file_of_tensors_is_told_in_our_words(tmp_path, name, kind, damage):
    path = tmp_path / name
    if damage in ("junk", "short junk"):
        path.write_bytes(b"\x17junk" * (1 if damage == "short junk" else 1000))
    else:
        save_file(STATE, path) if name.endswith("safetensors") else torch.save(STATE, path)
        path.write_bytes(path.read_bytes()[: 20 if damage == "cut at its head" else -20])
    with pytest.raises(BackboneError) as error:
        tensor_files.parse(path)
    reason = f"it is not {kind}, or is damaged or cut short"
    if "junk" in damage and name == "a.pth":  # it may be a pickle
        reason = "it is damaged, or holds more than tensors"
    assert str(error.value) == f"the weights {path} cannot be read as tensors: {reason}"
