"""Two runs: paired differences with exact tests, and what is compared."""

import json
import shutil
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from data import cache
from data.errors import HeliographError
from pipeline.evaluation import compare, compare_all, compare_runs
from pipeline.evaluation.compare_runs import detectable, holm, paired_difference
from pipeline.report.text import paired_clips
from pipeline.runs import Run, write_shared
from pipeline.training import train
from tests.helpers.command import run
from tests.helpers.runs import reseal

SMALL = {"epochs": 2, "oracle_epochs": 0, "agents": 2, "vocab": 3}


def test_the_sign_flip_test_is_exact():
    gap = np.array([0.1, 0.2, -0.05, 0.3, 0.12])
    extreme = [
        abs(np.dot(signs, gap)) >= abs(gap.sum()) - 1e-12 for signs in product([-1, 1], repeat=5)
    ]
    found = paired_difference([0.5] * 5, 0.5 + gap)
    assert found["p_value"] == np.mean(extreme)
    assert found["difference"] == pytest.approx(gap.mean())
    assert found["cohen_d"] == pytest.approx(gap.mean() / gap.std(ddof=1))
    low, high = found["interval"]
    assert gap.min() <= low < gap.mean() < high <= gap.max()


def test_differences_without_end_have_no_effect_size():
    same = paired_difference([0.5, 0.6], [0.5, 0.6])
    assert same["difference"] == 0
    assert same["p_value"] == 1
    assert same["cohen_d"] is None
    assert same["interval"] == [0, 0]


def test_intervals_cover_however_few_seeds_there_are():
    rng = np.random.default_rng(0)
    for count in (2, 3, 5, 10):
        gaps = 0.02 + 0.05 * rng.standard_normal((400, count))
        ends = np.array([paired_difference(np.zeros(count), gap)["interval"] for gap in gaps])
        held = (ends[:, 0] <= 0.02) & (ends[:, 1] >= 0.02)
        assert held.mean() == pytest.approx(0.95, abs=0.03)
    assert paired_difference([0.0], [0.1])["interval"] is None


def test_twenty_seeds_are_drawn_and_still_never_below_the_observed_pattern():
    found = paired_difference(np.zeros(20), np.full(20, 0.1) + np.arange(20) * 1e-3)
    assert 0 < found["p_value"] < 1e-4


def test_holm_multiplies_the_smallest_most_and_keeps_the_order():
    assert holm([0.02, 0.5, 0.01, 0.9]) == pytest.approx([0.06, 1.0, 0.04, 1.0])
    assert holm([0.04]) == [0.04]


def test_what_is_detectable_is_detected_four_times_in_five():
    rng = np.random.default_rng(0)
    gaps = 0.05 * rng.standard_normal((400, 10))
    true = detectable((gaps[0] / gaps[0].std(ddof=1) * 0.05).tolist())
    t = (gaps + true).mean(1) / (gaps.std(1, ddof=1) / np.sqrt(10))
    assert (t > 2.262).mean() == pytest.approx(0.8, abs=0.05)
    assert detectable([0.1]) is None
    assert detectable([0.1, 0.1]) is None
    assert detectable([0.0, 0.1, 0.2, 0.3, 0.4]) is None  # p is never below 0.06
    assert detectable([0.0, 0.1], seeds=40) < detectable([0.0, 0.1], seeds=10)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, features):
    """Three runs: of mass on seeds 0 and 1, of mass on seeds 1 and 2, of mass and volume on 1."""
    folder = tmp_path_factory.mktemp("runs")
    cache.save(features, folder / "made.h5")
    made = {"one": (["mass"], [0, 1]), "two": (["mass"], [1, 2]), "both": (["mass", "volume"], [1])}
    return {
        name: train(folder / "made.h5", folder / name, properties=properties, seeds=seeds, **SMALL)
        for name, (properties, seeds) in made.items()
    }


def test_a_run_next_to_itself_and_next_to_another(runs):
    same = compare(runs["one"].folder, runs["one"].folder)
    assert same["scores"]["accuracy_test"]["together"]["p_value"] == 1
    assert same["agreement"]["runs"]["matched"] == 1
    both = compare(runs["one"].folder, runs["two"].folder)
    assert both["seeds"] == [1]
    assert both["paired_splits"] is True
    for score in both["scores"].values():  # a seed does not depend on its company
        assert score["together"]["difference"] == 0
        assert score["properties"]["mass"]["difference"] == 0
    assert both["agreement"]["runs"]["adjusted_mutual_information"] == pytest.approx(1)
    assert len(both["agreement"]["agents"]) == 2
    assert both["agreement"]["seeds"] == [None, None]


def test_a_copy_without_names_has_the_clips_of_its_cache(runs, tmp_path):
    copy = write_shared(runs["one"], tmp_path / "copy")
    for pair in ((runs["one"], copy), (copy, copy)):
        same = compare(*pair)
        assert same["paired_splits"] is True
        assert same["agreement"]["runs"]["matched"] == 1
    source = replace(copy.source, content_sha256="0" * 64)
    other = compare(runs["one"], replace(copy, sources=(source,)))
    assert other["paired_splits"] is other["agreement"] is None
    assert paired_clips(other).startswith(
        "2 seeds in common; cannot tell whether the test clips are the same: names of clips were"
    )


def test_several_runs_are_compared_by_twos(runs):
    folders = [runs[name].folder for name in ("one", "two", "both")]
    found = compare_all(folders, planned_seeds=20)
    assert [pair["runs"] for pair in found["pairs"]] == [
        [str(folders[first]), str(folders[second])] for first, second in ((0, 1), (0, 2), (1, 2))
    ]
    for pair in found["pairs"]:
        mass = pair["scores"]["accuracy_last_epoch"]["properties"]["mass"]
        assert mass["p_value"] <= mass["p_holm"] <= 1
        assert mass["detectable"] is None  # of one seed
    shown = run("compare", *map(str, folders)).stdout
    assert "shown" in shown  # "shown from", which a narrow table folds
    for folder in folders:
        assert shown.count(f"\n{folder}: ") + shown.startswith(f"{folder}: ") == 1
    assert shown.count(f"\nsecond: {folders[2]}\n") == 2
    assert shown.endswith("p in brackets: corrected for 3 pairs (Holm)\n")
    alone = run("compare", str(folders[0]))
    assert alone.exit_code == 2
    assert "it takes two runs at least to compare" in alone.stderr


def test_each_question_is_corrected_for_the_number_of_pairs(monkeypatch):
    found = {"ab": (0.01, 0.5), "ac": (0.04, 0.01), "bc": (0.03, 0.2)}

    def compared(first, second, *, planned_seeds):
        test, published = ({"p_value": p_value} for p_value in found[first + second])
        entries = {"accuracy_test": {"together": test, "properties": {}}}
        entries["accuracy_published_protocol"] = {
            "together": None,
            "properties": {"mass": published},
        }
        return {"scores": entries}

    monkeypatch.setattr(compare_runs, "compare", compared)
    monkeypatch.setattr(compare_runs.Run, "open", lambda folder: folder)
    pairs = [pair["scores"] for pair in compare_all(["a", "b", "c"])["pairs"]]
    assert [own["accuracy_test"]["together"]["p_holm"] for own in pairs] == [0.03, 0.06, 0.06]
    published = [own["accuracy_published_protocol"]["properties"]["mass"] for own in pairs]
    assert [own["p_holm"] for own in published] == [0.5, 0.03, 0.4]


def test_a_run_that_is_named_twice_is_remarked_and_compared_once(runs):
    one, two = (str(runs[name].folder) for name in ("one", "two"))
    shown = run("compare", one, two, f"{two}/../{runs['two'].folder.name}", "--json")
    assert json.loads(shown.stdout)["runs"] == [one, two]
    assert "is named twice: a run does not differ from itself" in shown.stderr
    assert "named twice" in run("compare", one, one).stderr
    assert "named twice" not in run("compare", one, two).stderr


@pytest.mark.parametrize("seeds", ["1", "10000000000000"])
def test_planned_seeds_have_ends(runs, seeds):
    shown = run("compare", runs["one"].folder, runs["two"].folder, "--planned-seeds", seeds)
    assert shown.exit_code == 2
    assert "is not a whole number from 2 to 1000000" in shown.stderr


def test_runs_without_a_common_seed_are_refused(runs, tmp_path):
    shutil.copytree(runs["both"].folder, tmp_path / "other")
    path = tmp_path / "other" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seeds": [7]}))
    reseal(tmp_path / "other")
    with pytest.raises(HeliographError, match="have no seed in common") as error:
        compare(runs["both"].folder, tmp_path / "other")
    assert "\n" not in str(error.value)


def test_other_properties_are_compared_where_shared(runs):
    found = compare(runs["one"].folder, runs["both"].folder)["scores"]["accuracy_last_epoch"]
    assert found["together"] is None
    assert set(found["properties"]) == {"mass"}


def test_runs_on_other_properties_are_refused(runs, tmp_path):
    other = shutil.copytree(runs["one"].folder, tmp_path / "other")
    for path in (other / "config.json", other / "metrics.json"):
        path.write_text(path.read_text().replace('"mass"', '"bounce"'))
    reseal(other)
    shown = run("compare", runs["one"].folder, other)
    assert shown.exit_code == 2
    sentence = "is about bounce: only runs with a property in common can be compared\n"
    assert shown.stderr.endswith(sentence)


def test_baselines_that_both_were_evaluated_with_are_compared(runs, tmp_path):
    folder = shutil.copytree(runs["one"].folder, tmp_path / "evaluated")
    per_seed = {"pixels": [0.6, 0.8], "differences": None, "ridge": [0.75, 0.75]}
    Run.open(folder).add_metrics(
        {"baselines": {name: estimate(own) for name, own in per_seed.items()}}
    )
    assert compare(folder, runs["one"].folder)["baselines"] == {}
    assert compare(folder, runs["both"].folder)["baselines"] == {}
    found = compare(folder, folder)["baselines"]
    assert {name: entry["first"] for name, entry in found.items()} == pytest.approx(
        {"pixels": 0.7, "ridge": 0.75}
    )
    assert "baseline: pixels" in run("compare", str(folder), str(folder)).stdout


def estimate(per_seed: list[float] | None) -> dict | None:
    """An accuracy as an evaluation writes it."""
    if per_seed is None:
        return None
    spread = {"mean": float(np.mean(per_seed)), "std": 0.1, "per_seed": per_seed}
    plain = spread | {"interval": [0.5, 0.9]}
    return plain | {"properties": {"mass": plain}}


def test_the_command_prints_both_ways(runs):
    words = ["compare", str(runs["one"].folder), str(runs["one"].folder)]
    shown = run(*words)
    assert shown.exit_code == 0
    assert "2 seeds in common, the same test clips in each" in shown.stdout
    assert "best relabelling" in shown.stdout
    assert "intervals (none for one seed) and p are over seeds" in shown.stdout
    assert "all at once" not in shown.stdout  # one property: it would say the same twice
    shown = run(*words, "--json")
    assert json.loads(shown.stdout)["scores"]["accuracy_test"]["together"]["difference"] == 0
    shown = run("compare", "gone", "gone")
    assert shown.exit_code == 1
    assert "gone is no run" in shown.stderr


def test_accuracies_of_different_games_are_not_compared(runs, tmp_path, features):
    cache.save(features, tmp_path / "made.h5")
    referential = train(
        tmp_path / "made.h5", tmp_path / "meant", properties=["mass"], seeds=[0, 1],
        game="referential", game_settings={"distractors": 1}, **SMALL,
    )  # fmt: skip
    with_itself = compare(referential.folder, referential.folder)["scores"]["accuracy_last_epoch"]
    assert with_itself["together"]["difference"] == 0
    assert with_itself["properties"] == {}
    with_other = compare(referential.folder, runs["one"].folder)
    assert with_other["scores"]["accuracy_last_epoch"] == {"together": None, "properties": {}}
    assert with_other["agreement"] is not None
    shown = run("compare", referential.folder, referential.folder)
    assert "last epoch, nothing chosen" in shown.stdout
    shown = run("compare", referential.folder, runs["one"].folder)
    assert shown.exit_code == 0
    assert "no accuracy in common: other properties, or another game" in shown.stdout
    assert "are over seeds" not in shown.stdout
