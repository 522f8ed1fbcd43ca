import math
import subprocess
import sys
from pathlib import Path

import pytest

from data.clips import Clip, ClipError


class TestClip:
    def test_a_clip_without_an_object_is_its_own(self):
        clip = Clip(id="a/b.mp4", path=Path("b.mp4"))
        assert clip.object == "a/b.mp4"
        assert not clip.has_object
        assert Clip(id="a/b.mp4", path=Path("b.mp4"), object="a").has_object

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"id": ""}, "cannot be the id"),
            ({"id": "a\nb"}, r"'a\\nb' cannot be the id of a clip: it is not one line of text"),
            ({"id": "a\0"}, r"'a\\x00' is not text"),
            ({"object": "\ud800"}, r"'x': '\\ud800' is not text"),
            ({"scenario": "\0"}, r"'x': '\\x00' is not text"),
            ({"labels": {"a\0": 1}}, r"'a\\x00' is not text"),
            ({"start": -1}, "x: start is -1 seconds"),
            ({"end": math.inf}, "x: end is inf seconds"),
            ({"start": math.nan}, "x: start is nan seconds"),
            ({"start": 2, "end": 2}, r"x: end 2.0 s is not after start 2.0 s"),
            ({"labels": {"mass": math.inf}}, "x: label 'mass' is inf"),
            ({"labels": {"a/b": 1}}, "x: 'a/b' cannot be the name of a label"),
            ({"labels": {".": 1}}, r"x: '\.' cannot be the name of a label"),
            ({"labels": {"mass": 1}, "units": {"volume": "ml"}}, "x: there is a unit of 'volume'"),
        ],
    )
    def test_refuses(self, change, message):
        with pytest.raises(ClipError, match=message):
            Clip(**{"id": "x", "path": Path("x"), **change})


@pytest.mark.parametrize(
    "module",
    ["clips", "manifests", "cache", "datasets", "datasets.physics101", "interchange", "video"],
)
def test_importing_data_loads_neither_torch_nor_av(module):
    code = f"import sys, data.{module};"
    code += "print([name for name in ('torch', 'av') if name in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert out.stdout.strip() == "[]"
