"""Restitution from falls whose truth is known: simulated ones, and ones drawn here."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from data.clips import Clip
from data.datasets.restitution import (
    COARSE,
    GOOD,
    Fall,
    label,
    measure,
    measure_frames,
    plot,
    read_small,
)
from data.manifests import read_manifest
from data.simulate import simulate
from data.video import DecoderPool


@pytest.fixture(scope="module")
def pool():
    with DecoderPool(workers=1) as shared_pool:
        yield shared_pool


@pytest.fixture(scope="module")
def falls(tmp_path_factory) -> list[Clip]:
    """Nine simulated falls: three elasticities, three drags."""
    folder = tmp_path_factory.mktemp("falls") / "clips"
    return read_manifest(
        simulate("fall", folder, grid=3, per_cell=1, size=128, seconds=2.0, seed=1, workers=1)
    )


def expected(clip: Clip) -> float:
    """What heights alone can tell: sqrt of bounce over drop."""
    return math.sqrt(clip.labels["bounce_height_m"] / clip.labels["drop_height_m"])


def drawn(
    restitution: float,
    *,
    fps: float = 60,
    seconds: float = 1.6,
    waits: float = 0.2,
    absent: bool = False,
    hand: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """A dark disc that falls 150 of 240 rows and bounces, seen from straight ahead."""
    rng = np.random.default_rng(0)
    wall = rng.integers(150, 200, (240, 120, 3)).astype(np.uint8)
    y, x = np.mgrid[:240, :120]
    frames, times = [], np.arange(round(seconds * fps)) / fps
    fall_seconds = 0.45
    gravity = 2 * 150 / fall_seconds**2  # pixels per s2
    for moment in times:
        since = moment - waits
        height, leaves, speed = 150.0, 0.0, 0.0
        if since > 0:
            height = 150 - gravity * since**2 / 2
            leaves, speed = fall_seconds, gravity * fall_seconds * restitution
            while height < 0 and speed > 5:
                flown = since - leaves
                height = speed * flown - gravity * flown**2 / 2
                leaves, speed = leaves + 2 * speed / gravity, speed * restitution
            height = max(height, 0.0)
        frame = wall.copy()
        if not (absent and moment < waits / 2):
            frame[(y - (200 - height)) ** 2 + (x - 60) ** 2 < 14**2] = (60, 20, 30)
        if hand and since <= 0:
            frame[: (200 - 150), 50:70] = (190, 140, 110)
        frames.append(frame)
    return np.stack(frames), times


class TestDrawnFalls:
    @pytest.mark.parametrize("restitution", [0.2, 0.6, 0.9])
    @pytest.mark.parametrize("fps", [30, 60])
    def test_the_truth_is_found(self, restitution, fps):
        found = measure_frames(*drawn(restitution, fps=fps))
        assert found.quality == GOOD
        assert found.restitution == pytest.approx(restitution, abs=0.03)

    def test_no_bounce_is_zero_and_coarse(self):
        found = measure_frames(*drawn(0.0))
        assert found.quality == COARSE
        assert found.usable
        assert found.restitution < 0.1

    def test_an_object_that_enters_later_and_a_hand_that_holds_it(self):
        for extra in ({"absent": True}, {"hand": True}):
            found = measure_frames(*drawn(0.6, fps=30, **extra))
            assert found.quality == GOOD
            assert found.restitution == pytest.approx(0.6, abs=0.05)

    def test_where_the_picture_is_mirrored_nothing_changes(self):
        frames, times = drawn(0.7)
        left, right = (
            measure_frames(frames, times),
            measure_frames(np.ascontiguousarray(frames[:, :, ::-1]), times),
        )
        assert left.restitution == pytest.approx(right.restitution, abs=0.01)

    def test_the_scale_of_the_picture_does_not_matter(self):
        frames, times = drawn(0.7)
        large = measure_frames(frames.repeat(2, 1).repeat(2, 2), times)
        assert large.restitution == pytest.approx(0.7, abs=0.03)


class TestQuality:
    def unusable(self, frames: np.ndarray, times: np.ndarray) -> str:
        found = measure_frames(frames, times)
        assert not found.usable
        assert math.isnan(found.restitution)
        return found.quality

    def test_a_clip_that_ends_in_mid_fall(self):
        frames, times = drawn(0.7)
        assert self.unusable(frames[:36], times[:36]) == "the clip ends before the impact"

    def test_a_clip_that_ends_on_the_way_up(self):
        frames, times = drawn(0.7)
        assert self.unusable(frames[:48], times[:48]) == "the clip ends before the apex"

    def test_nothing_falls(self):
        frames, times = drawn(0.7)
        assert self.unusable(frames[:1].repeat(20, 0), times[:20]) == "nothing falls"

    def test_a_film_shown_backwards_is_no_bounce(self):
        frames, times = drawn(0.0, seconds=0.7)
        assert not measure_frames(frames[::-1], times).usable

    def test_a_camera_that_moves(self):
        frames, times = drawn(0.7)
        moving = np.stack([np.roll(frame, 3 * n, 1) for n, frame in enumerate(frames)])
        assert self.unusable(moving, times) == "the camera or the light moves"

    def test_a_file_that_is_no_film(self, tmp_path, pool):
        (tmp_path / "a.mp4").write_text("no film")
        found = measure(tmp_path / "a.mp4", pool)
        assert found.quality.startswith("cannot be read: ")
        assert measure_frames(np.zeros((3, 48, 64, 3), np.uint8), np.arange(3.0)).quality == (
            "only 3 frames"
        )


class TestSimulatedFalls:
    def test_every_frame_is_read_once_and_in_order(self, falls, pool):
        frames, seconds = read_small(falls[0].path, pool)
        assert frames.shape == (48, 128, 128, 3)
        np.testing.assert_allclose(seconds, np.arange(48) / 24, atol=1e-6)

    def test_errors_are_what_the_docstring_of_the_test_says(self, falls, pool):
        """Mean error at most 0.06, none beyond 0.15; at least seven of nine clips usable."""
        found = {clip.id: measure(clip.path, pool) for clip in falls}
        errors = [
            abs(found[clip.id].restitution - expected(clip))
            for clip in falls
            if found[clip.id].usable
        ]
        assert len(errors) >= 7
        assert np.mean(errors) < 0.06
        assert max(errors) < 0.15

    def test_labels_and_plots(self, falls, tmp_path):
        shown = {}
        swing = Clip(id="swing", path=tmp_path / "x.mp4", scenario="spring", labels={"mass": 1.0})
        labelled, measured = label(
            [falls[0], swing, falls[-3]],
            show=lambda name, png: shown.update({name: png}),
            workers=1,
        )
        assert [clip.id for clip in labelled] == [falls[0].id, "swing", falls[-3].id]
        assert math.isnan(labelled[1].labels["restitution"])
        assert labelled[1].labels["mass"] == 1.0
        assert set(measured) == {falls[0].id, falls[-3].id}
        high = labelled[2].labels["restitution"]
        assert high == measured[falls[-3].id].restitution
        assert high > 0.7
        names = {clip.id.removesuffix(".mp4").replace("/", "_") for clip in (falls[0], falls[-3])}
        assert set(shown) == {f"{name}.png" for name in names}
        assert all(Image.open(io.BytesIO(png)).format == "PNG" for png in shown.values())

    def test_a_plot_shows_the_track_and_the_levels(self, falls, pool):
        found = measure(falls[-3].path, pool)
        picture = np.asarray(Image.open(io.BytesIO(plot(found, title="a"))))
        assert picture.shape == (128 + 40, 2 * 128 + 70, 3)
        for colour, level in (((0, 140, 60), found.release), ((150, 75, 0), found.ground)):
            row = picture[30 + round(level)]
            near = picture[29 + int(level) : 32 + int(level)]
            assert (near == colour).all(-1).any(), (level, row)
        assert plot(Fall("nothing falls")).startswith(b"\x89PNG")
