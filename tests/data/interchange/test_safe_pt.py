import contextlib
import io
import os
import pickle
import struct
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data import screening
from data.files import sha256_file
from data.interchange import InterchangeError, write_pt
from data.interchange import read_pt as read_screened
from data.interchange.safe_pt import read_hashed_pt
from tests.helpers.paper_files import make_paper_features, make_paper_static, save_pt

torch = pytest.importorskip("torch")


def read_pt(path: Path) -> dict:
    """Read in this process what `read_screened` reads in another one first."""
    return read_hashed_pt(path, screened=True)[0]


def archive(path: Path, pickled: bytes, records: dict[str, bytes] | None = None, **kwargs) -> Path:
    """A zip file laid out as torch.save does, with any pickle in it."""
    with zipfile.ZipFile(path, "w", **kwargs) as file:
        for name, content in {
            "archive/data.pkl": pickled,
            "archive/byteorder": b"little",
            "archive/version": b"3\n",
            **(records or {}),
        }.items():
            file.writestr(name, content)
    return path


def call(module: str, name: str, *arguments: str) -> bytes:
    """A pickle of protocol 2 that calls a function when it is loaded by a trusting reader."""
    strings = b"".join(b"X" + struct.pack("<I", len(text)) + text.encode() for text in arguments)
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + strings + b"tR."


class TestReading:
    def test_what_may_be_in_it(self, tmp_path):
        content = {
            "tensor": torch.arange(6, dtype=torch.float16).reshape(2, 3),
            "text": "é",
            "names": ["a", "b"],
            "number": 3,
            "half": 0.5,
            "nothing": None,
            "yes": True,
            "tuple": (1, (2.0, "x")),
            "nested": {"index": [{"bin": 1, "values": [1.0, 2.0]}]},
            "scalar": np.float64(2.5),
            "scalar_int": np.int32(-3),
        }
        read = read_pt(save_pt(content, tmp_path / "x.pt"))
        assert torch.equal(read.pop("tensor"), content.pop("tensor"))
        assert read == content
        assert type(read["scalar"]) is np.float64

    @pytest.mark.parametrize(
        "dtype",
        [
            *("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8"),
            *("uint16", "uint32", "uint64", "bool", "complex64", ">f4", ">i8", "U5", "S3"),
        ],
    )
    @pytest.mark.parametrize("shape", [(0,), (), (3,), (2, 3, 4), (2, 0)])
    def test_arrays_of_any_plain_type(self, tmp_path, dtype, shape):
        array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
        read = read_pt(save_pt({"a": array}, tmp_path / "x.pt"))["a"]
        assert isinstance(read, np.ndarray)
        assert (read.dtype, read.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(read, array)

    def test_the_order_of_memory_is_kept_out_of_the_values(self, tmp_path):
        array = np.asfortranarray(np.arange(12).reshape(3, 4))
        np.testing.assert_array_equal(
            read_pt(save_pt({"a": array, "t": array.T}, tmp_path / "x.pt"))["t"], array.T
        )

    def test_the_name_that_numpy_1_wrote(self, tmp_path):
        new = io.BytesIO()
        torch.save({"a": np.arange(3.0)}, new)
        pickled = zipfile.ZipFile(new).read("archive/data.pkl")
        assert b"numpy._core.multiarray" in pickled
        old = pickled.replace(b"cnumpy._core.multiarray", b"cnumpy.core.multiarray")
        read = read_pt(archive(tmp_path / "x.pt", old))
        np.testing.assert_array_equal(read["a"], [0, 1, 2])

    def test_an_array_that_stands_twice_is_one(self, tmp_path):
        array = np.arange(3)
        read = read_pt(save_pt({"a": array, "b": [array]}, tmp_path / "x.pt"))
        assert read["a"] is read["b"][0]

    def test_a_file_like_the_papers(self, tmp_path):
        read = read_pt(make_paper_features(tmp_path / "x.pt"))
        assert list(read) == ["features", "obj_names", "mass_values", "scenario"]
        assert (read["features"].dtype, tuple(read["features"].shape)) == (
            torch.float16,
            (12, 8, 16),
        )
        assert (read["mass_values"].dtype, read["mass_values"].shape) == (np.float64, (12,))
        assert set(read["mass_values"].tolist()) == {14.0, 51.3, 269.9}

    def test_the_papers_files(self, shared):
        read = read_pt(shared / "data/phase87_phys101_spring_features.pt")
        assert list(read) == ["features", "obj_names", "mass_values", "scenario"]
        assert tuple(read["features"].shape) == (206, 8, 1024)
        assert (read["mass_values"].dtype, read["mass_values"].shape) == (np.float64, (206,))
        assert (read["mass_values"].min(), read["mass_values"].max()) == (7.7, 269.9)


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class TestRefusals:
    def refused(self, path: Path, message: str) -> None:
        with pytest.raises(InterchangeError, match=message) as error:
            read_pt(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("module", "name"),
        [
            ("os", "system"),
            ("posix", "system"),
            ("builtins", "eval"),
            ("__builtin__", "eval"),
            ("builtins", "exec"),
            ("builtins", "getattr"),
            ("subprocess", "Popen"),
            ("numpy", "load"),
            ("numpy", "fromfile"),
            ("numpy", "memmap"),
            ("numpy.lib._npyio_impl", "load"),
            ("numpy.testing._private.utils", "runstring"),
            ("torch", "load"),
            ("torch.hub", "load"),
            ("torch.utils._config_module", "load_config"),
            ("torch", "UntypedStorage"),
            ("torch._utils", "_rebuild_sparse_tensor"),
            ("functools", "partial"),
            ("operator", "attrgetter"),
            ("data.interchange.formats", "import_pt"),
        ],
    )
    def test_what_it_tried_to_load_is_named_and_not_called(self, tmp_path, module, name):
        mark = tmp_path / "mark"
        path = archive(tmp_path / "x.pt", call(module, name, f"touch {mark}"))
        self.refused(path, f"it tries to load {module}.{name}$")
        assert not mark.exists()

    @pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
    def test_nested_and_in_every_protocol(self, tmp_path, protocol):
        mark = tmp_path / "mark"
        content = {"features": [1, {"x": (Evil(os.system, f"touch {mark}"),)}]}
        path = archive(tmp_path / "x.pt", pickle.dumps(content, protocol))
        self.refused(path, "tries to load|its pickle uses STACK_GLOBAL")
        assert not mark.exists()

    def test_saved_by_torch_itself(self, tmp_path):
        mark = tmp_path / "mark"
        content = {"a": np.arange(3), "b": Evil(os.system, f"touch {mark}")}
        path = save_pt(content, tmp_path / "x.pt")
        self.refused(path, "it tries to load posix.system")
        assert not mark.exists()

    def test_a_model_of_somebodys_class(self, tmp_path):
        self.refused(save_pt(torch.nn.Linear(2, 2), tmp_path / "x.pt"), "it tries to load torch.nn")

    @pytest.mark.parametrize(
        "array",
        [
            np.array([Evil(os.system, "true"), None], dtype=object),
            np.array(["a", None], dtype=object),
        ],
    )
    def test_an_array_of_objects(self, tmp_path, array):
        self.refused(
            save_pt({"a": array}, tmp_path / "x.pt"),
            "it holds an array of Python objects|it tries to load posix.system",
        )

    def test_an_array_with_fields(self, tmp_path):
        array = np.zeros(2, dtype=[("a", "f4"), ("b", "O")])
        self.refused(save_pt({"a": array}, tmp_path / "x.pt"), "it holds (type 'V|an array)")

    def test_times_are_neither_numbers_nor_text(self, tmp_path):
        array = np.zeros(2, dtype="M8[s]")
        self.refused(save_pt({"a": array}, tmp_path / "x.pt"), "type 'M8'")

    def forged_array(self, state) -> bytes:
        """`numpy.ndarray` with a state of our own, in protocol 2."""

        class Dtype:
            def __init__(self, spec, state):
                self.spec, self.state = spec, state

            def __reduce__(self):
                return (np.dtype, (self.spec, False, True), self.state)

        shape, spec, dtype_state, raw = state

        class Array:
            def __reduce__(self):
                rebuild = np.arange(0).__reduce__()[0]
                return (
                    rebuild,
                    (np.ndarray, (0,), b"b"),
                    (1, shape, Dtype(spec, dtype_state), False, raw),
                )

        return pickle.dumps({"a": Array()}, protocol=2)

    @pytest.mark.parametrize(
        ("state", "message"),
        [
            (
                ((10**15,), "f8", (3, "<", None, None, None, -1, -1, 0), b"12345678"),
                "an array claims 8000000000000000 bytes and has 8",
            ),
            (
                ((-1,), "f8", (3, "<", None, None, None, -1, -1, 0), b"12345678"),
                r"an array of shape \(-1,\)",
            ),
            (
                # Flags of 0 would make NumPy take these bytes for pointers to objects.
                ((1,), "V8", (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0), b"A" * 8),
                "type 'V8'",
            ),
            (
                ((1,), "f8", (3, "<", None, ("a",), {"a": (np.dtype("f8"), 0)}, 8, 1, 0), b"A" * 8),
                "an array type with fields or metadata",
            ),
            (
                ((1,), "f8", (3, "?", None, None, None, -1, -1, 0), b"A" * 8),
                "an array of byte order '?'",
            ),
            (
                ((1,), "f8", (3, "<", None, None, None, -1, -1, 0), [1, 2]),
                "an array that is not plain bytes",
            ),
            (((1,), "U99999999", None, b"A"), "an array claims 399999996 bytes and has 1"),
        ],
    )
    def test_an_array_that_lies_about_itself(self, tmp_path, state, message):
        self.refused(archive(tmp_path / "x.pt", self.forged_array(state)), message)

    def test_a_tensor_that_lies_about_its_storage(self, tmp_path):
        memory = io.BytesIO()
        torch.save({"a": torch.zeros(10)}, memory)
        with zipfile.ZipFile(memory) as file:
            records = {name: file.read(name) for name in file.namelist()}
        pickled = records.pop("archive/data.pkl")
        huge = pickled.replace(b"K\x0a", b"J" + struct.pack("<i", 10_000_000))
        self.refused(archive(tmp_path / "x.pt", huge, records), "record size|bytes")

    def test_a_tensor_spread_over_one_number(self, tmp_path):
        path = save_pt({"a": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "x.pt")
        self.refused(path, r"a tensor of shape \(1000000, 1000000\) is not in the file")

    def test_a_compressed_archive_could_be_a_bomb(self, tmp_path):
        path = archive(
            tmp_path / "x.pt",
            pickle.dumps({}, 2),
            {"archive/data/0": bytes(50_000_000)},
            compression=zipfile.ZIP_DEFLATED,
        )
        self.refused(path, "is compressed")

    def test_lists_within_lists_without_end(self, tmp_path):
        depth = 100_000
        pickled = b"\x80\x02}X\x01\x00\x00\x00a" + b"]" * depth + b"a" * (depth - 1) + b"s."
        self.refused(archive(tmp_path / "x.pt", pickled), "recursion|nested")

    def test_a_list_in_itself(self, tmp_path):
        loop: list = []
        loop.append(loop)
        self.refused(save_pt({"a": loop}, tmp_path / "x.pt"), "it holds itself")

    def test_lists_that_are_more_values_than_the_file_has_bytes(self, tmp_path):
        value: list = []
        for _ in range(30):
            value = [value, value]
        self.refused(
            save_pt({"features": value}, tmp_path / "x.pt"), "it holds [0-9]+ values in a file of"
        )

    def test_an_integer_without_end(self, tmp_path):
        self.refused(save_pt({"a": 10**30}, tmp_path / "x.pt"), "integer of more than 64 bits")

    def test_truncated(self, tmp_path):
        content = make_paper_static(tmp_path / "whole.pt").read_bytes()
        for stop in (0, 1, 100, len(content) // 2, len(content) - 1):
            (tmp_path / "x.pt").write_bytes(content[:stop])
            self.refused(tmp_path / "x.pt", "not a zip file of torch.save")

    def test_flipped_bits_never_do_anything_else(self, tmp_path):
        memory = io.BytesIO()
        torch.save({"features": torch.ones(2, 2, 2), "obj_names": ["a", "b"]}, memory)
        content = memory.getvalue()
        for position in range(0, len(content), 7):
            spoiled = bytearray(content)
            spoiled[position] ^= 4
            (tmp_path / "x.pt").write_bytes(spoiled)
            with contextlib.suppress(InterchangeError):
                read_pt(tmp_path / "x.pt")

    def test_the_format_of_before_torch_1_6(self, tmp_path):
        torch.save({"a": 1}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
        self.refused(tmp_path / "x.pt", "not a zip file of torch.save .*before torch 1.6")

    def test_another_zip_file(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "x.pt", "w") as file:
            file.writestr("a.txt", "hello")
        self.refused(tmp_path / "x.pt", "a zip file, but not one of torch.save")

    def test_not_a_dict(self, tmp_path):
        self.refused(save_pt([1, 2], tmp_path / "x.pt"), "holds a list, not a dict")

    def test_not_a_file(self, tmp_path):
        self.refused(tmp_path, "is not a file")
        self.refused(tmp_path / "gone.pt", "does not exist")
        os.mkfifo(tmp_path / "pipe.pt")
        self.refused(tmp_path / "pipe.pt", "is not a file")

    def test_nothing_stays_allowed_afterwards(self, tmp_path):
        before = set(torch.serialization.get_safe_globals())
        read_pt(save_pt({"a": np.arange(3)}, tmp_path / "x.pt"))
        assert set(torch.serialization.get_safe_globals()) == before


class TestScreening:
    def test_a_file_from_elsewhere_is_read_in_another_process_first(self, tmp_path, no_record):
        path = archive(tmp_path / "x.pt", call("os", "system", "true"))
        with pytest.raises(InterchangeError, match="it tries to load"):
            read_screened(path)
        assert not no_record.exists()
        sound = tmp_path / "sound.pt"
        torch.save({"a": 1}, sound)
        assert read_screened(sound) == {"a": 1}
        assert screening.is_recorded(f"sha256:{sha256_file(sound)}")

    def test_our_own_file_is_read_at_once(self, tmp_path, no_record, monkeypatch):
        write_pt({"a": 1}, tmp_path / "x.pt")
        monkeypatch.setattr(subprocess, "Popen", None)
        assert read_screened(tmp_path / "x.pt") == {"a": 1}
