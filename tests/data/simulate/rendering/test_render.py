"""The pictures: honest first frames, smooth edges, true occlusion."""

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from data.files import WriteError
from data.simulate import SCENES
from data.simulate.rendering import encode, look, render
from data.simulate.rendering.camera import Camera
from data.simulate.rendering.picture import Picture, ycc
from data.simulate.scenes.world import Prism, Puck, World

SIZE, FRAMES, FPS = 128, 12, 24.0


def world_of(scene: str, values: tuple[float, float], seed: int) -> World:
    return SCENES[scene].play(*values, np.random.default_rng(seed), FRAMES, FPS)


def look_of(world: World, seed: int) -> look.Look:
    kinds = 1 + max((prism.material for prism in world.prisms), default=-1)
    return look.draw(np.random.default_rng(seed), blocks=kinds, pucks=len(world.pucks))


def pictures(world: World, seed: int, size: int = SIZE) -> NDArray[np.uint8]:
    """Frames uint8 (T, size, size, 3), RGB."""
    return np.stack(
        [rgb(picture) for picture in render.frames(world, look_of(world, seed), size=size)]
    )


def rgb(picture: Picture) -> NDArray[np.uint8]:
    planes = np.concatenate([picture.luma.ravel(), picture.chroma.ravel()])
    rows = planes.reshape(-1, picture.luma.shape[1])  # (3 size / 2, size)
    return av.VideoFrame.from_ndarray(rows, format="yuv420p").to_ndarray(format="rgb24")


def decoded(path: Path) -> NDArray[np.uint8]:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def corners(scene: str) -> list[tuple[float, float]]:
    first, second = SCENES[scene].properties
    return [(a, b) for a in (first.low, first.high) for b in (second.low, second.high)]


@pytest.mark.parametrize("scene", SCENES)
def test_the_first_frame_does_not_depend_on_the_properties(scene: str, tmp_path: Path) -> None:
    """Not a pixel, not even through the encoder, which could spend bits by what follows."""
    firsts, lasts = [], []
    for values in corners(scene):
        world = world_of(scene, values, seed=3)
        path = tmp_path / "clip.mp4"
        encode.write(render.frames(world, look_of(world, 3), size=SIZE), path, fps=FPS, size=SIZE)
        frames = decoded(path)
        firsts.append(frames[0])
        lasts.append(frames[-1])
    for other in firsts[1:]:
        np.testing.assert_array_equal(other, firsts[0])
    assert any(np.abs(other.astype(int) - lasts[0]).max() > 30 for other in lasts[1:])


@pytest.mark.parametrize("scene", SCENES)
def test_a_probe_on_the_first_frame_is_at_chance(scene: str) -> None:
    """Ridge regression on pixels, cells held out, against 200 shuffles of the labels."""
    rng = np.random.default_rng(0)
    pixels, labels = [], []
    properties = SCENES[scene].properties
    for trial in range(6):
        for values in corners(scene):
            world = SCENES[scene].play(*values, rng, 2, FPS)
            seen = pictures(world, int(rng.integers(1 << 30)), size=64)[0]
            pixels.append(seen.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)).ravel())
            labels.append([*values, trial])
    x = np.array(pixels)  # (clips, 192)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9)
    y, fold = np.array(labels)[:, :2], np.array(labels)[:, 2]
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    for column in range(len(properties)):
        real = _explained(x, y[:, column], fold)
        null = [_explained(x, rng.permutation(y[:, column]), fold) for _ in range(200)]
        assert np.quantile(null, 0.005) < real < np.quantile(null, 0.995)


def _explained(x: NDArray[np.float64], y: NDArray[np.float64], fold: NDArray[np.float64]) -> float:
    """Correlation of held-out predictions with y."""
    kernel = x @ x.T / x.shape[1]
    predicted = np.empty_like(y)
    for held in np.unique(fold):
        test, train = fold == held, fold != held
        inner = kernel[np.ix_(train, train)] + np.eye(int(train.sum()))
        predicted[test] = kernel[np.ix_(test, train)] @ np.linalg.solve(inner, y[train])
    return float(np.corrcoef(predicted, y)[0, 1])


def still(puck: Puck, at: tuple[float, float], prisms: tuple[Prism, ...] = ()) -> World:
    return World(
        prisms=prisms, pucks=(puck,), tracks=np.array([[at]], float), labels={},
        view=(-0.5, 0.0, 0.5, 1.0),
    )  # fmt: skip


def difference(a: World, b: World) -> NDArray[np.float64]:
    """How much two worlds differ, (n, n), in the colour in which they differ most."""
    shown = [pictures(world, 5)[0].astype(float) for world in (a, b)]
    return np.abs(shown[0] - shown[1]).max(axis=-1)


def test_the_puck_is_drawn_where_the_camera_sees_it() -> None:
    puck, at = Puck(radius=0.1, depth=0.02), (0.2, 0.6)
    far = still(puck, (50.0, 50.0))
    changed = difference(still(puck, at), far) > 12
    seen = look_of(far, 5)
    camera = Camera.around(
        far.view, size=SIZE, yaw=seen.yaw, pitch=seen.pitch, roll=seen.roll, field=seen.field,
        zoom=seen.zoom, shift=seen.shift,
    )  # fmt: skip
    x, y, depth = camera.project(np.array([*at, 0.0]))
    radius = 0.1 * camera.focal_pixels / float(depth)
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    inside = np.hypot(columns - x, rows - y) < 0.7 * radius
    assert changed[inside].mean() > 0.95


def test_small_steps_move_the_picture_a_little() -> None:
    """Places are finer than a pixel: a tenth of one is seen, and is less than a whole one."""
    puck = Puck(radius=0.15, depth=0.1)
    base = still(puck, (0.0, 0.5))
    steps = [difference(base, still(puck, (step, 0.5))).sum() for step in (0.001, 0.004, 0.016)]
    assert 0 < steps[0] < steps[1] < steps[2]


def test_a_board_in_front_hides_the_puck_and_one_behind_does_not() -> None:
    puck, far = Puck(radius=0.1, depth=0.1), (50.0, 50.0)
    sides = ((-0.5, 0.0), (0.5, 0.0), (0.5, 1.0), (-0.5, 1.0))
    for z, shown in ((0.3, False), (-0.3, True)):
        board = (Prism(corners=sides, depth=0.02, middle_z=z),)
        changed = difference(still(puck, (0.0, 0.5), board), still(puck, far, board))
        # The puck's own area, without what its shadow may reach beside the board.
        assert (
            changed[SIZE // 2 - 4 : SIZE // 2 + 4, SIZE // 2 - 4 : SIZE // 2 + 4] > 5
        ).any() == shown


def test_a_puck_casts_a_shadow_on_the_floor() -> None:
    puck = Puck(radius=0.15, depth=0.2)
    with_puck, without = (
        pictures(still(puck, at), 5)[0].astype(float).mean(axis=-1) for at in ((0, 0.2), (50, 50))
    )
    darker = without - with_puck
    assert (darker[SIZE // 2 :] > 8).sum() > 50


def test_a_puck_outside_the_picture_leaves_it_alone() -> None:
    puck = Puck(radius=0.1, depth=0.1)
    assert difference(still(puck, (50.0, 0.1)), still(puck, (-50.0, 0.1))).max() == 0


def test_looks_vary_and_repeat_with_their_seed() -> None:
    world = world_of("ramp", (0.5, 0.2), seed=0)
    one, same, other = (pictures(world, seed)[0].astype(int) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).mean() > 8


def test_an_unknown_texture() -> None:
    with pytest.raises(ValueError, match="no texture is called 'felt'"):
        look.texture("felt", 0)


def test_textures_repeat_without_a_seam() -> None:
    for pattern in ("speckle", "wood"):
        made = look.texture(pattern, 0)
        inner = np.abs(np.diff(made, axis=0)).max()
        assert np.abs(made[0] - made[-1]).max() <= 1.5 * inner


def test_encoding_is_close_to_what_was_drawn(tmp_path: Path) -> None:
    world = world_of("ramp", (0.5, 0.2), seed=0)
    drawn = pictures(world, 1).astype(float)
    path = tmp_path / "clip.mp4"
    encode.write(render.frames(world, look_of(world, 1), size=SIZE), path, fps=FPS, size=SIZE)
    back = decoded(path).astype(float)
    assert back.shape == drawn.shape
    noise = np.mean((back.mean(axis=-1) - drawn.mean(axis=-1)) ** 2)
    assert 10 * np.log10(255**2 / noise) > 32  # PSNR of grey, dB


def test_pictures_and_rgb_frames_are_written_alike(tmp_path: Path) -> None:
    world = world_of("fall", (0.5, 1.0), seed=0)
    drawn = render.frames(world, look_of(world, 1), size=SIZE)
    encode.write(drawn, tmp_path / "planes.mp4", fps=FPS, size=SIZE)
    encode.write(pictures(world, 1), tmp_path / "rgb.mp4", fps=FPS, size=SIZE)
    planes, shown = (decoded(tmp_path / name).astype(int) for name in ("planes.mp4", "rgb.mp4"))
    assert np.abs(planes - shown).mean() < 2


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    with pytest.raises(WriteError, match=r"no/a\.mp4 cannot be written: No such file"):
        encode.write(frames, tmp_path / "no" / "a.mp4", fps=FPS, size=32)


def test_colours_are_those_of_bt601() -> None:
    offsets = np.array([16, 128, 128])
    red, white = offsets + ycc(np.array([[1.0, 0, 0], [1, 1, 1]]), warmth=0.0)
    np.testing.assert_allclose(red, (81.5, 90.2, 240.0), atol=0.1)
    np.testing.assert_allclose(white, (235, 128, 128), atol=0.1)
