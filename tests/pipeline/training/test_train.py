"""What `train` makes beside the plain game: controls, channels, folds, notes, all its words."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch

from data import cache
from data.errors import HeliographError
from pipeline.config import TrainConfig, build_config, holistic, matched_bandwidth
from pipeline.dataset import Examples, build_examples
from pipeline.report import score_rows
from pipeline.report.provenance import command_to_repeat
from pipeline.runs import Run
from pipeline.training import fit, train
from pipeline.training.callbacks import Progress, ProgressCallback
from pipeline.training.diagnostics import diagnose
from tests.helpers.command import run as run_command

QUICK = {"properties": ["mass"], "epochs": 2, "seeds": 2}


def test_a_control_stands_beside_its_run_with_the_four_published_keys(cache_path, tmp_path):
    out = tmp_path / "run"
    run = train(cache_path, out, agents=1, control=True, **QUICK)
    control = Run.open(out / "control")
    assert (control.config.heads, control.config.vocab) == (1, 64)
    for config in (run.config, control.config):
        assert (config.epochs, config.receivers) == (2, 1)
    assert control.config.sender_lr == run.config.sender_lr / 2
    assert control.config.receiver_lr == run.config.receiver_lr / 2
    for name in ("", "seeds/0", "seeds/1"):
        stored = torch.load(out / name / "model.pt", weights_only=True)
        assert set(stored) == {"sender_2x8", "receiver_2x8", "sender_1x64", "receiver_1x64"}
        assert stored["sender_1x64"]["head.weight"].shape == (64, 128)
        assert stored["receiver_1x64"]["shared.0.weight"].shape == (128, 128)
    found = run.metrics()
    assert found.control.heads == 1
    assert found.control.accuracy_test == control.metrics().accuracy_test
    assert np.array_equal(run.sender().state_dict()["heads.0.weight"].shape, (8, 128))


def test_a_control_learns_as_long_as_the_published_ones_unless_told(cache_path, tmp_path):
    config = holistic(build_config("published", ("mass",)))
    assert (config.logit_clamp, config.sender_lr, config.receiver_lr) == (15.0, 5e-4, 1.5e-3)
    for words, sentence in (
        ({"heads": 1}, "a single head has no holistic control"),
        ({"channel": "continuous"}, "a continuous channel has no holistic control"),
        ({"heads": 8}, r"8\*\*8 = 16777216 symbols is too large"),
    ):
        with pytest.raises(HeliographError, match=sentence):
            train(cache_path, tmp_path / "run", control=True, **QUICK | words)
    assert not (tmp_path / "run").exists()


def test_features_in_memory_are_saved_beside_the_run(features, tmp_path):
    beside = tmp_path / "run.h5"
    run = train(features, tmp_path / "run", **QUICK)
    assert run.source.path == beside
    assert cache.load(beside).content_sha256 == features.content_sha256
    before = beside.stat().st_mtime_ns
    train(features, tmp_path / "run", overwrite=True, **QUICK)
    assert beside.stat().st_mtime_ns == before
    others = features.select(range(len(features) - 1))
    with pytest.raises(
        HeliographError, match=r"run\.h5, where the features of .* go, holds others"
    ):
        train(others, tmp_path / "run", overwrite=True, **QUICK)
    assert cache.load(beside).content_sha256 == features.content_sha256


def test_null_seeds_are_scored_beside_the_run_and_are_no_part_of_it(cache_path, tmp_path):
    settings = {"properties": ["mass", "volume"], "seeds": 2, "epochs": 2, "oracle_epochs": 2}
    plain = train([cache_path], tmp_path / "plain", **settings)
    run = train([cache_path], tmp_path / "run", **settings, null=2)
    assert run.seeds == (0, 1)
    assert sorted(path.name for path in (run.folder / "seeds").iterdir()) == ["0", "1"]
    metrics, control = run.metrics(), run.metrics().shuffled_labels
    assert len(control.per_seed) == 2
    assert set(control.properties) == {"mass", "volume"}
    assert metrics.accuracy_test == plain.metrics().accuracy_test
    assert [row[0] for row in score_rows(metrics)[1]].count("control: shuffled labels") == 1
    for own in run.null:
        lines, known = own.messages(), run.messages(0)
        permuted, true = ([line["labels"] for line in some] for some in (lines, known))
        assert permuted != true
        for name in {line["object"] for line in lines}:  # an object's clips keep sharing labels
            of_object = [new for new, line in zip(permuted, lines, strict=True)
                         if line["object"] == name and new["mass"] is not None]  # fmt: skip
            assert all(labels in true for labels in of_object)
            assert len({labels["mass"] for labels in of_object}) <= 1
        assert {"train", "validation", "test"} <= {line["part"] for line in lines}
    assert len(run.null) == 2
    assert "--null 2" in command_to_repeat(run)
    with pytest.raises(HeliographError, match="null"):
        train([cache_path], tmp_path / "run", **settings, resume=True)


def test_matched_bandwidth_is_one_agent_with_all_the_heads(cache_path, tmp_path):
    run = train(cache_path, tmp_path / "run", agents=4, heads=2, vocab=5, matched=True, **QUICK)
    assert (run.config.agents, run.config.heads) == (1, 8)
    assert run.tokens().shape[1:] == (1, 8)
    several = build_config("default", ("mass",), sees=(0, 1))
    with pytest.raises(HeliographError, match="sees one cache"):
        matched_bandwidth(several)


def test_a_continuous_channel_says_the_tanh_of_its_heads(cache_path, tmp_path, features):
    run = train(cache_path, tmp_path / "run", channel="continuous", vocab=3, **QUICK)
    values = np.array([line["values"] for line in run.messages()])
    assert values.shape == (len(features), 2, 6)
    assert np.abs(values).max() < 1
    logits = run.sender().logits(torch.from_numpy(features.features))
    np.testing.assert_allclose(values, logits.tanh().flatten(2).detach().numpy(), atol=1e-5)
    assert len(run.messages()[0]["message"].split()) == 13
    with pytest.raises(HeliographError, match="a continuous channel: its messages have no tokens"):
        run.tokens()


def test_a_continuous_channel_learns_too(features):
    settings = {"epochs": 30, "sender_lr": 3e-3, "receiver_lr": 3e-3, "channel": "continuous"}
    config = build_config("default", ("mass",), **settings)
    results = list(fit(build_examples(features, ("mass",)), config, range(2)))
    assert np.mean([result.accuracy_test.together for result in results]) > 0.8


def test_staggered_resets_begin_one_receiver_again_at_a_time(features):
    def train_for(epochs, resets):
        config = build_config(
            "published", ("mass",), epochs=epochs, resets=resets, reset_interval=2, receiver_lr=0.0,
            tau_end=3.0,
        )  # fmt: skip
        from pipeline.training.trainer import MultiSeedTrainer

        chunk = MultiSeedTrainer(
            build_examples(features, ("mass",)), config, [0], width=1, device=torch.device("cpu")
        )
        before = chunk.receivers["shared0.weight"].detach().clone()
        chunk.run()
        after = chunk.receivers["shared0.weight"].detach()
        return [not torch.equal(before[:, n], after[:, n]) for n in range(3)]

    assert train_for(2, "staggered") == [False, False, False]
    assert train_for(3, "staggered") == [True, False, False]
    assert train_for(5, "staggered") == [True, True, False]
    assert train_for(3, "simultaneous") == [True, True, True]


def test_clamped_outputs_stay_within_their_bound(features):
    config = build_config("default", ("mass",), epochs=1, logit_clamp=0.01)
    (result,) = fit(build_examples(features, ("mass",)), config, [0])
    logits = result.sender.logits(torch.from_numpy(features.features) * 100)
    assert logits.abs().max() <= 0.01


def test_notes_say_what_an_accuracy_rests_on(cache_path, tmp_path, features):
    said = train(cache_path, tmp_path / "run", **QUICK).metrics().notes
    assert said == [
        "mass has one value per object: the 14 objects, not the 55 clips, are the sample, and a "
        "seed is tested on 4 of them"
    ]
    examples = build_examples(features, ("mass",))
    own = dataclasses.replace(examples, objects=tuple(map(str, range(len(features)))))
    (note,) = diagnose(own, build_config("default", ("mass",)), [0])
    assert note.startswith("every clip is an object of its own")


def test_a_seed_that_diverges_is_named_in_the_notes(cache_path, tmp_path):
    run = train(cache_path, tmp_path / "run", preset="published", sender_lr=1e30, **QUICK)
    lines = [note for note in run.metrics().notes if "diverged" in note]
    assert [line.partition(": the loss of ")[0] for line in lines] == [
        "seed 0 diverged",
        "seed 1 diverged",
    ]


def test_a_label_that_can_be_recalled_is_said(features):
    cells = np.arange(len(features)) % 9
    labels = np.stack([cells // 3, cells % 3], axis=1).astype(float)
    examples = Examples((features.features,), labels, tuple(f"o{cell // 3}" for cell in cells))
    said = diagnose(examples, build_config("published", ("elasticity", "friction")), [0, 1])
    assert any("elasticity" in s and "it can be recalled from who the object is" in s for s in said)
    assert not any("friction has one value" in line for line in said)


def test_validation_clips_that_are_alike_choose_nothing(features):
    objects = np.array([int(name[-2:]) for name in features.object])
    labels = (objects < 2).astype(float)[:, None]  # few of them: some seed validates on one class
    examples = Examples((features.features,), labels, tuple(features.object))
    config = build_config("default", ("mass",), epochs=12)

    def alike(seed):
        split = examples.split("objects", seed)
        parts = (np.ptp(labels[own]) for own in (split.train, split.validation, split.test))
        return [bool(width) for width in parts] == [True, False, True]

    seed = next(seed for seed in range(50) if alike(seed))
    said = diagnose(examples, config, [seed])
    assert any(f"all have the same mass (seed {seed})" in line for line in said)
    (result,) = fit(examples, config, [seed])
    assert result.epoch == 12
    assert np.isnan(result.accuracy_validation.together)
    assert result.accuracy_test == result.accuracy_last_epoch


def test_folds_are_stated(cache_path, tmp_path):
    run = train(cache_path, tmp_path / "run", split="kfold-4", **QUICK)
    assert run.metrics().folds == 4
    assert any("no whole rounds of 4 folds" in note for note in run.metrics().notes)
    assert train(cache_path, tmp_path / "other", **QUICK).metrics().folds is None


def test_tie_margins_are_set_by_property(cache_path, tmp_path):
    words = ["train", cache_path, "-o", tmp_path / "run", "--epochs", 1, "--seeds", 1]
    words += [
        "--oracle-epochs",
        0,
        "--property",
        "volume",
        "--property",
        "mass",
        "--tie-margin",
        "volume=1.5",
    ]
    shown = run_command(*words)
    assert shown.exit_code == 0, shown.stderr
    config = Run.open(tmp_path / "run").config
    assert config.properties == ("volume", "mass")
    assert config.tie_margins == (1.5, 0.5)
    with pytest.raises(HeliographError, match="a tie margin for 'size', which is not a property"):
        build_config("default", ("mass",), tie_margin={"size": 1.0})
    shown = run_command(*words, "--tie-margin", "mass")
    assert shown.exit_code == 2
    assert "'mass' is not PROPERTY=WIDTH" in shown.stderr


def test_every_setting_is_an_option_with_its_default():
    shown = run_command("train", "--help", terminal_width=200).output
    options = {word for word in shown.replace("/", " ").split() if word.startswith("--")}
    by_hand = {"properties": "--property", "sees": "--agents", "tie_margins": "--tie-margin"}
    for name in set(TrainConfig.model_fields) - {"game", "game_settings"}:
        assert by_hand.get(name, f"--{name.replace('_', '-')}") in options, name
    for group in ("Agents and messages", "The game", "Optimiser", "Schedule", "Encoders"):
        assert f"\n{group}:\n" in shown
    rates = "[published: 0.001; stabilised, default: 0.0003; ridge: 0.0001]"
    assert rates in " ".join(shown.split())


def test_options_reach_the_run(cache_path, tmp_path):
    words = ["train", cache_path, "-o", tmp_path / "run", "--property", "mass", "--seeds", 1]
    given = {
        "--epochs": 1, "--sender-lr": 0.002, "--receiver-lr": 0.004, "--weight-decay": 0.1,
        "--batch": 8, "--tau-start": 2.5, "--tau-end": 0.5, "--soft-epochs": 7, "--receivers": 2,
        "--reset-interval": 9, "--resets": "staggered", "--entropy-bonus": 0.5,
        "--entropy-threshold": 0.2, "--oracle-epochs": 1, "--oracle-lr": 0.01, "--hidden-dim": 16,
        "--grad-clip": 2.0, "--logit-clamp": 9.0, "--split": "kfold-3", "--axes": 4,
    }  # fmt: skip
    words += [word for pair in given.items() for word in pair] + ["--train-on-ties"]
    shown = run_command(*words)
    assert shown.exit_code == 0, shown.stderr
    config = Run.open(tmp_path / "run").config
    assert config.train_on_ties is True
    for word, value in given.items():
        assert getattr(config, word[2:].replace("-", "_")) == value


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--agents", "0"], 2, "--agents must be at least 1, got 0"),
        (["--agents", "made,"], 2, "leaves an agent without a cache"),
        (["--agents", "made,other"], 2, "no cache is called 'other': the caches are made"),
        (["--channel", "radio"], 2, "no channel 'radio': choose one of discrete, continuous"),
        (["--tau-end", "0"], 2, "0 is not a finite number above 0"),
        (["--split", "kfold-2"], 2, "kfold-2 leaves no fold to train on"),
        (["--split", "kfold-9"], 1, "14 objects are too few for 9 folds"),
    ],
)
def test_wrong_words_get_a_sentence(cache_path, tmp_path, words, code, sentence):
    out = tmp_path / "run"
    words = ["train", str(cache_path), "-o", str(out), "--property", "mass", *words]
    shown = run_command(*words)
    assert shown.exit_code == code, shown.output
    assert sentence in shown.stderr
    assert not out.exists()


def test_progress_is_of_all_seeds_so_far():
    shown = []
    overview = ProgressCallback(7, lambda *now: shown.append(now))
    nan = float("nan")
    overview(Progress((0, 1), 4, 4, 1.5, 0.25, (0.5, 0.7)))
    overview(Progress((2, 3), 1, 4, 3.0, 0.69, (nan, nan)))
    assert shown[-1][:2] == (10, 28)
    note = "epoch 1 of 4, tau 3.00, loss 0.690, validation 60.0 % ± 14.1 of 2 seeds"
    assert shown[-1][2] == note
    overview(Progress((2, 3), 2, 4, 2.0, 0.6, (0.6, 0.6)))
    assert shown[-1][2].endswith("validation 60.0 % ± 8.2 of 4 seeds")
    overview.begin("1x64")
    overview(Progress((0, 1), 1, 4, nan, nan, (nan, nan)))
    assert shown[-1] == (14, 28, "1x64, epoch 1 of 4, encoders with both clips in sight")
    overview(Progress((0,), 2, 4, 1.0, 0.5, (0.5,), "epoch 2 of 2"))
    assert shown[-1][2].startswith("1x64, epoch 2 of 2, tau 1.00, loss 0.500, validation")
    alone = ProgressCallback(1, lambda *now: shown.append(now))
    alone(Progress((0,), 2, 4, 1.0, 0.5, (0.5,)))
    assert shown[-1][2].endswith("validation 50.0 % of 1 seed")


def test_epochs_are_counted_as_they_were_asked_for(cache_path, tmp_path):
    """Two oracle epochs and two of the game, and the game again: not six, nor twelve."""
    notes = []
    train(
        cache_path, tmp_path / "run", properties=["mass"], seeds=1, epochs=2, oracle_epochs=2,
        progress=lambda done, total, note: notes.append((done, total, note.split(", tau")[0])),
    )  # fmt: skip
    words = [note.split(", encoders")[0] for *_, note in notes]
    first = ["oracle epoch 1 of 2", "oracle epoch 2 of 2", "epoch 1 of 2", "epoch 2 of 2"]
    assert words == first + [f"{word}, again with the validation clips" for word in first]
    assert notes[-1][:2] == (8, 8)


def test_event_files_are_written_where_the_package_is(cache_path, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(cache_path, tmp_path / "run", tensorboard=True, **QUICK)
    (folder,) = (run.folder / "tensorboard").iterdir()
    found = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in found.Scalars("loss")] == [1, 2, 3, 4]  # and again
    assert {"tau", "validation/mean", "validation/seed_1"} <= set(found.Tags()["scalars"])


def test_without_the_package_event_files_are_refused_in_a_sentence(
    cache_path, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(HeliographError, match=r"pip install 'heliograph\[tensorboard\]'"):
        train(cache_path, tmp_path / "run", tensorboard=True, **QUICK)
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
def test_a_gpu_trains_as_a_cpu_does(features):
    examples = build_examples(features, ("mass",))
    config = build_config("default", ("mass",), epochs=30, sender_lr=3e-3, receiver_lr=3e-3)
    scores = [
        np.mean([r.accuracy_test.together for r in fit(examples, config, range(7), device=device)])
        for device in ("cpu", "cuda")
    ]
    assert scores[1] > 0.75
    assert abs(scores[0] - scores[1]) < 0.1


def test_the_two_halves_of_one_label_can_come_from_two_caches(features, tmp_path):
    mass = features.labels["mass"]
    half = np.arange(len(mass)) % 2 == 0
    for name, known in (("one", half), ("two", ~half)):
        labels = {"mass": np.where(known, mass, np.nan)}
        cache.save(dataclasses.replace(features, labels=labels), tmp_path / f"{name}.h5")
    paths = [tmp_path / "one.h5", tmp_path / "two.h5"]
    run = train(paths, tmp_path / "run", agents=("one", "two"), **QUICK)
    told = [line["labels"]["mass"] for line in run.messages()]
    assert told == [None if np.isnan(value) else value for value in mass]
    assert json.loads((run.folder / "config.json").read_text())["config"]["sees"] == [0, 1]


@pytest.mark.parametrize("setting", ["agents", "heads", "vocab", "receivers"])
@pytest.mark.parametrize("count", [10**6, 10**26])
def test_more_than_any_machine_holds_is_a_sentence_at_once(cache_path, tmp_path, setting, count):
    sentence = "at most 1,000,000, got" if count > 10**6 else "GiB of memory, and"
    with pytest.raises(HeliographError, match=sentence):
        train(cache_path, tmp_path / "run", properties=["mass"], seeds=1, **{setting: count})


def test_more_seeds_than_a_run_may_have_are_refused_before_any_is_split(cache_path, tmp_path):
    words = ["train", cache_path, "-o", tmp_path / "run", "--property", "mass"]
    for more in (["--seeds", 10**26], ["--sweep", f"seeds={10**26}"]):
        shown = run_command(*words, *more)
        assert shown.exit_code == 2
        assert f"seeds must be at most 100,000, got {10**26}" in shown.stderr
