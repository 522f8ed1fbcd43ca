"""`import heliograph`: quick, complete, and the same for Python and for type checkers."""

import ast
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import heliograph
from tests.helpers.films import make_film

ROOT = Path(heliograph.__file__).parents[1]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", f"import sys; {code}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_import_loads_nothing_but_what_python_has():
    code = "before = set(sys.modules); import heliograph; print(*(set(sys.modules) - before))"
    loaded = {name.partition(".")[0] for name in run_python(code).stdout.split()}
    assert loaded - set(sys.stdlib_module_names) == {"heliograph"}


@pytest.mark.slow  # for the clock alone
def test_the_import_takes_less_than_a_fifth_of_a_second():
    code = "from time import perf_counter as now; start = now(); import heliograph; "
    assert float(run_python(code + "print(now() - start)").stdout) < 0.2


def test_every_name_is_there_and_listed():
    assert set(heliograph.ORIGINS) | {"__version__"} == set(heliograph.__all__)
    assert dir(heliograph) == sorted(heliograph.__all__)
    for name in heliograph.__all__:
        assert getattr(heliograph, name)
    assert heliograph.__version__ == version("heliograph")
    assert heliograph.metrics.topsim.__module__ == "pipeline.metrics.topsim"
    with pytest.raises(AttributeError, match="'heliograph' has no attribute 'evaluation'"):
        heliograph.evaluation  # noqa: B018


def test_caches_are_read_without_torch():
    code = "import heliograph; heliograph.load_cache; print('torch' in sys.modules)"
    assert run_python(code).stdout == "False\n"


def test_type_checkers_see_the_names_that_python_gives():
    tree = ast.parse(Path(heliograph.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {}
    for node in block.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                seen[alias.asname or alias.name] = (node.module, alias.name)
    seen["metrics"] = (".".join(seen["metrics"]), "")
    assert seen == heliograph.ORIGINS


@pytest.mark.slow
def test_a_type_checker_knows_the_types(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import heliograph\n"
        "reveal_type(heliograph.load_cache('a.h5'))\n"
        "reveal_type(heliograph.load_run('a'))\n"
        "heliograph.nothing\n"
    )
    words = [sys.executable, "-m", "mypy", "--config-file=", "--follow-imports=silent", "mine.py"]
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert 'Revealed type is "data.cache.features.Features"' in lines[0], done
    assert 'Revealed type is "pipeline.runs.run.Run"' in lines[1], done
    assert 'Module has no attribute "nothing"' in lines[2], done


def test_each_package_ships_its_types():
    for name in ("backbones", "data", "heliograph", "pipeline"):
        assert (ROOT / name / "py.typed").is_file()


@pytest.mark.slow
def test_from_clips_to_a_message(tmp_path):
    rows = ["path,object,mass"]
    for number in range(18):
        make_film(tmp_path / f"{number}.mp4", number, frames=12)
        rows.append(f"{number}.mp4,o{number // 2},{10 + 7 * (number // 2)}")
    (tmp_path / "clips.csv").write_text("\n".join(rows) + "\n")
    cache, out = tmp_path / "clips.h5", tmp_path / "runs" / "mine"
    done = heliograph.extract(tmp_path / "clips.csv", cache, backbone="pixels", sampling=4)
    assert (done.done, done.failed) == (18, {})
    features = heliograph.load_cache(cache)
    assert features.features.shape[:2] == (18, 4)
    trained = heliograph.train(features, out, properties=["mass"], seeds=1, epochs=2)
    run = heliograph.load_run(out)
    assert run == trained
    assert run.source.path == tmp_path / "runs" / "mine.h5"
    assert heliograph.evaluate(run, permutations=10).baselines
    message = heliograph.Speaker(out)(tmp_path / "0.mp4")
    assert str(message) == run.messages()[0]["message"]
    frames = heliograph.read_video(tmp_path / "0.mp4").frames
    assert len(frames) == 12
