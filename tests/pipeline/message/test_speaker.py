"""From a video to its message, and the refusals on the way."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import backbones
from data import cache
from data.clips import Clip
from data.errors import HeliographError
from data.manifests import list_clips, write_manifest
from data.video import Sampling
from data.windows import Windows
from pipeline.cli.message import message as command
from pipeline.extraction import extract
from pipeline.message import Message, Reading, load_lexicon
from pipeline.message import speaker as message
from pipeline.runs import Run
from pipeline.training import train
from tests.helpers.tiny_backbone import TINY_ENTRY

SMALL = {"properties": ["brightness"], "epochs": 2, "seeds": range(1)}


def make_video(path: Path, brightness: int, frames: int = 12, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.RandomState(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width = stream.height = 48
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, 12)
        for _ in range(frames):
            pixels = rng.randint(0, 40, (48, 48, 3)) + brightness
            picture = av.VideoFrame.from_ndarray(pixels.astype(np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Twelve objects of two clips each, brighter and brighter."""
    folder, made = tmp_path_factory.mktemp("clips"), []
    for number in range(24):
        level = 10 + 8 * (number // 2)
        name = f"object_{number // 2:02d}/{number % 2}.mp4"
        path = make_video(folder / name, level, seed=number)
        labels = {"brightness": float(level)}
        made.append(Clip(id=name, path=path, object=name.split("/")[0], labels=labels))
    return made


def make_run(folder: Path, clips: list[Clip]) -> Run:
    """Train on features of the clips."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.BACKBONES, "tiny", TINY_ENTRY)
        model = backbones.load("tiny", device="cpu")
    extract(clips, folder / "clips.h5", backbone=model, sampling=Sampling(frames=8))
    return train(folder / "clips.h5", folder / "run", **SMALL)


@pytest.fixture(scope="module")
def trained(clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("trained"), clips)


@pytest.fixture
def run(trained: Run, tiny) -> Run:
    """The run, which no test changes, with its backbone registered."""
    return trained


@pytest.fixture
def speaker(run: Run) -> message.Speaker:
    return message.load(run.folder, device="cpu")


def test_a_video_says_what_its_cached_features_said(run, speaker, clips):
    lines = run.messages()
    for clip, line in list(zip(clips, lines, strict=True))[::6]:
        said = speaker(clip.path)
        assert said.tokens.tolist() == line["tokens"]
        assert str(said) == line["message"]
    from_cache = speaker.messages_for_caches([cache.load(run.source.path)])
    assert [(one.clip, str(one), one.tokens.tolist()) for one in from_cache] == [
        (line["clip"], line["message"], line["tokens"]) for line in lines
    ]


def test_a_cache_is_spoken_of_a_block_of_clips_at_a_time(run, speaker, monkeypatch):
    features = cache.load(run.source.path)
    whole = [one.to_json() for one in speaker.messages_for_caches([features])]
    asked: list[int] = []
    infer = speaker.infer

    def counted(parts):
        asked.append(len(parts[0]))
        return infer(parts)

    monkeypatch.setattr(speaker, "infer", counted)
    monkeypatch.setattr(message, "BLOCK_NUMBERS", 5 * features.features[0].size)
    found = [one.to_json() for one in speaker.messages_for_caches([features])]
    assert max(asked) == 5
    assert sum(asked) == len(features)
    assert [one["tokens"] for one in found] == [one["tokens"] for one in whole]
    assert [one["clip"] for one in found] == [one["clip"] for one in whole]


def test_agents_with_different_eyes_speak_of_a_video(tiny, clips, tmp_path):
    moving, still = tmp_path / "moving.h5", tmp_path / "still.h5"
    extract(clips, moving, backbone=tiny(), sampling=Sampling(frames=8))
    extract(clips, still, backbone=tiny(), sampling=Sampling(name="window", frames=2))
    run = train([moving, still], tmp_path / "run", agents=["moving", "still"], **SMALL)
    speaker = message.load(run.folder, device="cpu")
    for clip, line in list(zip(clips, run.messages(), strict=True))[::6]:
        assert speaker(clip.path).tokens.tolist() == line["tokens"]


def test_a_message_is_json_and_text():
    sure = np.array([[0.9, 0.5], [1.0, 0.25]])
    gloss = (("heavy", "any mass"), ("perhaps light", "–"))
    said = Message("a.mp4", np.array([[3, 7], [1, 2]]), sure, gloss)
    assert str(said) == "3-7 | 1-2"
    assert said.meaning == "heavy, any mass | perhaps light, –"
    assert json.loads(json.dumps(said.to_json())) == {
        "clip": "a.mp4", "message": "3-7 | 1-2", "tokens": [[3, 7], [1, 2]],
        "confidence": [[0.9, 0.5], [1.0, 0.25]],
        "gloss": [["heavy", "any mass"], ["perhaps light", "–"]], "distance": None, "missing": [],
        "estimates": None,
    }  # fmt: skip


def test_a_message_shows_in_a_notebook_and_as_a_row():
    sure = np.full((1, 2), 0.5)
    reading = Reading(
        name="mass", value=2.0, interval=(1.0, 3.0), level=0.9, band="low", confidence=0.7
    )
    said = Message("<b>.mp4", np.array([[3, 7]]), sure, (("<i>", "x"),), readings=(reading,))
    shown = said._repr_html_()
    assert "<th>3-7</th>" in shown
    assert "&lt;b&gt;.mp4" in shown
    assert "&lt;i&gt;, x" in shown
    assert str(reading) in shown
    pytest.importorskip("pandas")
    (row,) = said.to_pandas().to_dict("records")
    assert row == {
        "clip": "<b>.mp4", "message": "3-7", "meaning": "<i>, x", "mass": 2.0, "mass low": 1.0,
        "mass high": 3.0, "mass band": "low", "mass confidence": 0.7,
    }  # fmt: skip


def test_confidence_is_the_softmax_of_the_senders_logits(run, speaker):
    features = cache.load(run.source.path).features[:5]
    tokens, confidence = speaker.infer(features)
    logits = run.sender().logits(torch.from_numpy(features).float()).detach().numpy()
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    expected = odds / odds.sum(-1, keepdims=True)
    assert np.allclose(confidence, expected.max(-1), atol=1e-6)
    assert (tokens == expected.argmax(-1)).all()


def test_a_batch_says_what_its_parts_say(run, speaker):
    features = cache.load(run.source.path).features
    tokens, confidence = speaker.infer(features)
    for clip in (0, 7, 23):
        alone, sure = speaker.infer(features[clip : clip + 1])
        assert (alone[0] == tokens[clip]).all()
        assert np.allclose(sure[0], confidence[clip], atol=1e-5)


def test_features_of_another_shape_are_refused(run, speaker):
    with pytest.raises(HeliographError, match=r"trained on 4 steps of 5 .* have 3 steps of 5"):
        speaker.infer(np.zeros((2, 3, 5), np.float32))


def test_a_message_has_its_gloss_and_its_distance(run, speaker, clips):
    said = speaker(clips[0].path)
    assert said.gloss == load_lexicon(run).gloss(said.tokens.tolist())
    (few,) = said.missing
    assert few.startswith("no intervals of the estimates: 4 objects held out by the seeds of the")
    assert [one.name for one in said.readings] == ["brightness"]
    assert said.readings[0].interval is said.readings[0].confidence is None
    lines = {line["clip"]: line for line in run.messages()}
    found = list(speaker.messages_for_caches([cache.load(run.source.path)]))
    for one in found:
        if lines[one.clip]["part"] == "train":
            assert one.distance.nearest == one.clip
            assert one.distance.value == 0
            assert not one.distance.unfamiliar
        else:
            assert one.distance.value > 0


def test_a_clip_unlike_anything_seen_is_said_to_be_so(run, clips, tmp_path):
    strange = make_video(tmp_path / "strange.mp4", 215)
    shown = CliRunner().invoke(
        command, [str(run.folder), str(clips[3].path), str(strange), "--device", "cpu"]
    )
    assert shown.exit_code == 0, shown.output
    known, unknown = (line.split("\t") for line in shown.stdout.splitlines())
    assert known[4].startswith("familiar")
    assert unknown[4].startswith("unlike anything seen")
    assert "warning: strange.mp4 is unlike anything" in shown.stderr
    assert "warning: 1.mp4" not in shown.stderr
    assert len(known) == 6
    assert known[5].startswith("brightness ")


def test_without_its_cache_a_run_still_speaks_and_says_what_is_missing(tiny, clips, tmp_path):
    run = make_run(tmp_path, clips)
    run.source.path.unlink()
    said = message.load(run.folder, device="cpu")(clips[0].path)
    assert said.distance is None
    assert said.gloss is not None
    assert said.missing[0].startswith(
        f"no distance from the training clips: the cache that {run.folder} was trained on is "
        f"gone: {run.source.path}"
    )
    (run.folder / "messages.jsonl").unlink()
    said = message.load(run.folder, device="cpu")(clips[0].path)
    assert said.gloss is not None  # it is in lexicon.json
    assert said.readings is not None  # they are made by readout.json
    (run.folder / "lexicon.json").unlink()
    (run.folder / "readout.json").unlink()
    said = message.load(run.folder, device="cpu")(clips[0].path)
    assert said.gloss is None
    assert "no gloss" in said.missing[0]
    assert said.readings is None
    assert said.missing[2] == f"no estimates: {run.folder / 'messages.jsonl'} is missing"
    assert said.tokens.shape == said.confidence.shape == (2, 2)


def test_manifests_folders_and_broken_clips_are_taken_together(speaker, clips, tmp_path):
    write_manifest(clips[:2], tmp_path / "two.jsonl")
    broken = tmp_path / "broken.mp4"
    broken.write_text("version https://git-lfs.github.com/spec/v1\n")
    said = list(message.messages_for(speaker, [tmp_path / "two.jsonl", broken]))
    assert [type(one).__name__ for one in said[:2]] == ["Message", "Message"]
    assert isinstance(said[2], HeliographError)
    assert "broken.mp4" in str(said[2])


def test_a_backbone_with_other_weights_is_refused(run, tiny, clips, monkeypatch):
    entry = backbones.BACKBONES["tiny"]

    def build(options):
        backbone = entry.build(options)
        backbone.fingerprint["weights_sha256"] = "other"
        return backbone

    changed = type(entry)(**vars(entry) | {"build": build})
    monkeypatch.setitem(backbones.BACKBONES, "tiny", changed)
    with pytest.raises(HeliographError, match=r"another backbone.*weights_sha256 is 'other'"):
        message.load(run.folder, device="cpu")(clips[0].path)


def test_a_cache_of_another_sampling_is_refused(run, speaker, tiny, clips, tmp_path):
    other = tmp_path / "other.h5"
    extract(clips[:2], other, backbone=tiny(), sampling=Sampling(frames=8, pad=True))
    with pytest.raises(HeliographError, match=r"another sampling.*pad is True, the run's False"):
        list(message.messages_for(speaker, [other]))


def test_a_clip_that_is_too_short_is_refused(speaker, tmp_path):
    short = make_video(tmp_path / "short.mp4", 50, frames=5)
    with pytest.raises(HeliographError, match=r"short\.mp4: the clip has 5 frames, 8 are asked"):
        speaker(short)


def test_imported_features_speak_only_where_their_origin_is_declared(
    cache_path, tmp_path, features, tiny, clips
):
    settings = {"epochs": 1, "seeds": range(1)}
    run = train(cache_path, tmp_path / "imported", properties=["mass"], **settings)
    with pytest.raises(HeliographError, match="--backbone and --frames"):
        message.load(run.folder, device="cpu")(clips[0].path)

    declared = dict(features.fingerprint) | {"backbone": "tiny", "frames": 8}
    steps = np.random.RandomState(0).rand(56, 4, 5).astype(np.float32)
    fitting = replace(features, features=steps, fingerprint=declared)
    cache.save(fitting, cache_path)
    run = train(cache_path, tmp_path / "declared", properties=["mass"], **settings)
    assert message.load(run.folder, device="cpu")(clips[0].path).tokens.shape == (2, 2)

    cache.save(replace(fitting, fingerprint=declared | {"frames": 6}), cache_path)
    run = train(cache_path, tmp_path / "wrong", properties=["mass"], **settings)
    with pytest.raises(HeliographError, match="gives 3 of 5"):
        message.load(run.folder, device="cpu")(clips[0].path)


# extraction, on the same clips


def test_a_second_extraction_keeps_what_is_done(tiny, clips, tmp_path):
    target = tmp_path / "again.h5"
    first = extract(clips[:5], target, backbone=tiny(), sampling=Sampling(frames=8))
    one = cache.load(target)
    second = extract(clips[:8], target, backbone=tiny(), sampling=Sampling(frames=8))
    two = cache.load(target)
    assert (first.done, first.kept) == (5, 0)
    assert (second.done, second.kept) == (3, 5)
    assert np.array_equal(two.features[:5], one.features)
    assert list(two.clip_id) == [clip.id for clip in clips[:8]]
    assert two.labels["brightness"].tolist() == [clip.labels["brightness"] for clip in clips[:8]]


def test_neither_workers_nor_order_change_the_features(tiny, clips, tmp_path):
    made = []
    for number, (workers, given) in enumerate([(1, clips[:6]), (3, clips[5::-1])]):
        target = tmp_path / f"{number}.h5"
        extract(given, target, backbone=tiny(), sampling=Sampling(frames=4), workers=workers)
        made.append(cache.load(target))
    order = [made[1].clip_id.index(clip) for clip in made[0].clip_id]
    assert np.array_equal(made[0].features, made[1].features[order])


def test_a_clip_that_fails_costs_only_itself(tiny, clips, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(clips[0].path.read_bytes()[:300])
    gone = Clip(id="gone.mp4", path=tmp_path / "gone.mp4")
    given = [clips[0], Clip(id="bad.mp4", path=bad), gone, clips[1]]
    target = tmp_path / "some.h5"
    summary = extract(given, target, backbone=tiny(), sampling=Sampling(frames=4))
    assert list(cache.load(target).clip_id) == [clips[0].id, clips[1].id]
    assert set(summary.failed) == {"bad.mp4", "gone.mp4"}
    failures = dict(cache.load(target).failures)
    assert failures == summary.failed
    assert str(tmp_path) not in " ".join(summary.failed.values())


def test_features_too_large_for_float16_fail_their_clip(tiny, clips, tmp_path):
    backbone = tiny()
    forward = backbone.forward
    backbone.forward = lambda batch: forward(batch) * 1e6
    target = tmp_path / "large.h5"
    half = extract(clips[:1], target, backbone=backbone, sampling=Sampling(frames=4))
    assert "not finite numbers in float16" in half.failed[clips[0].id]
    other = tmp_path / "full.h5"
    full = extract(
        clips[:1], other, backbone=backbone, sampling=Sampling(frames=4), dtype="float32"
    )
    assert full.done == 1


def test_frames_that_do_not_fill_the_steps_are_refused(tiny, clips, tmp_path):
    with pytest.raises(HeliographError, match=r"2 frames per step.*7 frames"):
        extract(clips, tmp_path / "odd.h5", backbone=tiny(), sampling=Sampling(frames=7))
    assert not (tmp_path / "odd.h5").exists()


def test_a_cache_made_otherwise_is_refused_and_left_alone(tiny, clips, tmp_path):
    target = tmp_path / "one.h5"
    extract(clips[:2], target, backbone=tiny(), sampling=Sampling(frames=4))
    before = target.read_bytes()
    with pytest.raises(HeliographError, match="frames"):
        extract(clips[:2], target, backbone=tiny(), sampling=Sampling(frames=8))
    assert target.read_bytes() == before


def test_ctrl_c_keeps_what_is_done(tiny, clips, tmp_path):
    torch.set_num_threads(1)  # one clip at a time
    reports = []

    def interrupt(summary):
        reports.append(summary.finished)
        if len(reports) == 4:
            raise KeyboardInterrupt

    target = tmp_path / "cut.h5"
    summary = extract(
        clips, target, backbone=tiny(), sampling=Sampling(frames=4), progress=interrupt
    )
    assert summary.interrupted
    assert summary.done == 4
    assert len(cache.load(target)) == summary.done
    rest = extract(clips, target, backbone=tiny(), sampling=Sampling(frames=4))
    assert (rest.done, rest.kept) == (len(clips) - summary.done, summary.done)
    assert [clip.id for clip in list_clips([clips[0].path.parents[1]])] == list(
        cache.load(target).clip_id
    )


def test_a_long_video_has_a_message_for_each_window_as_if_it_were_a_clip(run, speaker, tmp_path):
    film = make_video(tmp_path / "long.mp4", 60, frames=48)
    said = list(speaker.windows(film, Windows(every=1, span=2)))
    assert [one.clip for one in said] == [
        "long.mp4#000000-000002", "long.mp4#000001-000003", "long.mp4#000002-000004",
    ]  # fmt: skip
    for one in said:
        alone = speaker(Clip(id="x", path=film, start=one.window.start, end=one.window.end))
        assert one.tokens.tolist() == alone.tokens.tolist()
        assert one.confidence.tolist() == alone.confidence.tolist()
        assert (one.gloss, one.missing) == (alone.gloss, alone.missing)
        assert one.to_json()["start"] == one.window.start
        assert one.to_json()["end"] == one.window.end
        assert "start" not in alone.to_json()


def test_a_timeline_piped_has_the_times_after_the_columns_of_today(run, tmp_path):
    film = make_video(tmp_path / "long.mp4", 60, frames=48)
    words = [str(run.folder), str(film), "--device", "cpu"]
    whole = CliRunner().invoke(command, words).stdout.rstrip("\n").split("\t")
    shown = CliRunner().invoke(command, [*words, "--every", "2"])
    rows = [line.split("\t") for line in shown.stdout.splitlines()]
    assert [row[0] for row in rows] == ["long.mp4#000000-000002", "long.mp4#000002-000004"]
    assert {len(row) for row in rows} == {len(whole) + 2}
    assert [row[-2:] for row in rows] == [["0", "2"], ["2", "4"]]
    printed = CliRunner().invoke(command, [*words, "--every", "2", "--json"]).stdout.splitlines()
    assert [json.loads(line)["start"] for line in printed] == [0.0, 2.0]


def test_a_timeline_on_a_terminal_fits_80_columns(run, tmp_path, monkeypatch):
    name = "long" * 20 + ".mp4"
    film = make_video(tmp_path / name, 250, frames=48)
    monkeypatch.setattr("pipeline.cli.message.is_terminal", lambda stream: True)
    monkeypatch.setattr(Message, "meaning", "light, of middle brightness | " * 3)
    words = [str(run.folder), str(film), "--device", "cpu", "--every", "2", "--span", "1.5"]
    shown = CliRunner().invoke(command, words)
    heading, *lines = shown.stdout.splitlines()
    assert heading == name
    assert [line.split()[0] for line in lines] == [
        "0:00:00.00-0:00:01.50", "0:00:02.00-0:00:03.50",
    ]  # fmt: skip
    assert all(len(line) == 80 and line.endswith("...") for line in lines)


def test_a_video_without_a_window_and_a_window_without_frames_fail_alone(run, clips, tmp_path):
    film = make_video(tmp_path / "long.mp4", 60, frames=48)
    words = [str(run.folder), str(clips[0].path), str(film), "--device", "cpu"]
    shown = CliRunner().invoke(command, [*words, "--every", "2"])
    assert shown.exit_code == 3
    assert "it lasts 1.000 s, and a window takes 2 s: try a smaller --every" in shown.stderr
    assert len(shown.stdout.splitlines()) == 2
    shown = CliRunner().invoke(command, [*words, "--every", "2", "--span", "0.5"])
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert f"{film}#000002-000002.5: the clip has 6 frames, 8 are asked for (" in shown.stderr


def test_where_no_clip_has_a_message_the_command_has_failed(run, clips, tmp_path):
    short = make_video(tmp_path / "short.mp4", 60, frames=1)
    words = [str(run.folder), str(short), "--device", "cpu"]
    shown = CliRunner().invoke(command, words)
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert (
        "the clip has 1 frame, 8 are asked for (`extract` takes fewer with --frames, or repeats "
        "the last with --pad)"
    ) in shown.stderr
    assert CliRunner().invoke(command, [*words, str(clips[0].path)]).exit_code == 3


def test_a_cache_is_not_cut(run):
    words = [str(run.folder), str(run.source.path), "--every", "2"]
    shown = CliRunner().invoke(command, words)
    assert shown.exit_code == 2
    assert "--every cuts videos, and " in shown.stderr
