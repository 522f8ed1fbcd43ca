"""The engine against closed forms: what the labels say is what happens."""

import math

import numpy as np
import pytest

from data.simulate import SCENES
from data.simulate.scenes import physics as engine
from data.simulate.scenes.collision import FRICTION
from data.simulate.scenes.physics import FLOOR, GRAVITY_M_S2
from data.simulate.scenes.ramp import ANGLE
from data.simulate.scenes.scene import Puck, Trial
from data.simulate.scenes.spring import BEAM_M, MASS_KG, RELAXED_M

FRAMES, FPS = 48, 24.0


def simulate_trial(
    scene: str, first: float, second: float, *, seed: int = 0, frames: int = FRAMES
) -> Trial:
    return SCENES[scene].simulate(first, second, np.random.default_rng(seed), frames, FPS)


@pytest.mark.parametrize("friction", [0.05, 0.25, 0.5])
@pytest.mark.parametrize("elasticity", [0.1, 0.9])
def test_sliding_acceleration_on_the_ramp(elasticity: float, friction: float) -> None:
    trial = simulate_trial("ramp", elasticity, friction)
    steps = int(trial.labels["exit_seconds"] * FPS)
    track = trial.tracks[: steps + 1, 0]
    moved = np.linalg.norm(track - track[0], axis=1)
    expected = GRAVITY_M_S2 * (math.sin(ANGLE) - friction * math.cos(ANGLE))
    times = np.arange(steps + 1) / FPS
    assert moved[-1] == pytest.approx(expected * times[-1] ** 2 / 2, rel=0.01)
    speed = trial.labels["exit_speed_m_s"]
    assert speed == pytest.approx(expected * trial.labels["exit_seconds"], rel=0.01)


def test_a_free_disc_would_hide_its_friction() -> None:
    """Why the puck cannot turn: above mu = tan(a) / 3 a free disc rolls, all alike."""
    exits = [
        simulate_trial("ramp", 0.5, friction).labels["exit_seconds"] for friction in (0.3, 0.4, 0.5)
    ]
    assert np.diff(exits).min() > 0.05


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("elasticity", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("scene", ["ramp", "fall"])
def test_bounce_height(scene: str, elasticity: float, seed: int) -> None:
    labels = simulate_trial(scene, elasticity, 0.2 if scene == "ramp" else 0.0, seed=seed).labels
    speed = labels["impact_speed_m_s"]
    expected = (elasticity * speed) ** 2 / (2 * GRAVITY_M_S2)
    assert labels["bounce_height_m"] == pytest.approx(expected, rel=0.02, abs=0.001)


@pytest.mark.parametrize("elasticity", [0.3, 0.9])
def test_without_drag_a_fall_from_h_bounces_to_e2_h(elasticity: float) -> None:
    trial = simulate_trial("fall", elasticity, 0.0)
    labels = trial.labels
    height = labels["drop_height_m"]
    assert height == pytest.approx(trial.tracks[0, 0, 1] - trial.pucks[0].radius)
    assert labels["impact_speed_m_s"] == pytest.approx(
        math.sqrt(2 * GRAVITY_M_S2 * height), rel=0.01
    )
    assert labels["bounce_height_m"] == pytest.approx(elasticity**2 * height, rel=0.02)


@pytest.mark.parametrize("drag", [1.0, 3.0])
def test_fall_with_drag(drag: float) -> None:
    labels = simulate_trial("fall", 0.5, drag).labels
    expected = GRAVITY_M_S2 / drag * (1 - math.exp(-drag * labels["fall_seconds"]))
    assert labels["impact_speed_m_s"] == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("friction", [0.05, 0.2, 0.6])
@pytest.mark.parametrize("elasticity", [0.2, 0.8])
def test_a_bounce_takes_horizontal_speed_by_friction(elasticity: float, friction: float) -> None:
    space = engine.make_space([FLOOR])
    puck = Puck(radius=0.1, depth=0.1)
    body = engine.add_puck(space, puck, at=(0, 0.5), elasticity=elasticity, friction=friction)
    body.velocity = (2.0, 0.0)
    states, _ = engine.simulate_bodies(space, [body], frames=12, fps=FPS)
    step, speed, _ = engine.first_bounce(states[:, 0], puck.radius)
    assert step is not None
    expected = max(0.0, 2.0 - friction * (1 + elasticity) * speed)
    assert states[step + 2, 0, 2] == pytest.approx(expected, rel=0.02, abs=0.01)


@pytest.mark.parametrize("ratio", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("restitution", [0.1, 0.9])
def test_speeds_after_a_collision(ratio: float, restitution: float) -> None:
    labels = simulate_trial("collision", ratio, restitution).labels
    before = labels["impact_speed_m_s"]
    assert labels["struck_speed_m_s"] == pytest.approx(
        before * ratio * (1 + restitution) / (1 + ratio), rel=0.01
    )
    assert labels["striker_speed_m_s"] == pytest.approx(
        before * (ratio - restitution) / (1 + ratio), rel=0.01, abs=0.005
    )
    lost = labels["launch_speed_m_s"] - before
    assert lost == pytest.approx(FRICTION * GRAVITY_M_S2 * labels["impact_seconds"], rel=0.02)


def test_the_struck_puck_slides_as_far_as_friction_lets_it() -> None:
    trial = simulate_trial("collision", 0.25, 0.1, frames=96)
    speed = trial.labels["struck_speed_m_s"]
    stop = speed**2 / (2 * FRICTION * GRAVITY_M_S2)
    assert trial.labels["struck_distance_m"] == pytest.approx(stop, rel=0.03)
    assert np.ptp(trial.tracks[:, :, 1]) < 1e-3  # nobody leaves the floor


@pytest.mark.parametrize("stiffness", [20.0, 35.0, 60.0])
@pytest.mark.parametrize("damping", [0.1, 1.0])
def test_spring_period_decay_and_rest(stiffness: float, damping: float) -> None:
    trial = simulate_trial("spring", stiffness, damping, frames=480)
    y = trial.tracks[:, 0, 1]
    rest = BEAM_M - RELAXED_M - trial.pucks[0].radius - trial.labels["rest_extension_m"]
    swing = y - rest
    down = np.flatnonzero((swing[:-1] > 0) & (swing[1:] <= 0))
    crossings = (down + swing[down] / (swing[down] - swing[down + 1])) / FPS
    count = min(5, len(crossings) - 1)
    period = (crossings[count] - crossings[0]) / count
    decay = damping / (2 * MASS_KG)
    expected = 2 * math.pi / math.sqrt(stiffness / MASS_KG - decay**2)
    assert trial.labels["period_seconds"] == pytest.approx(expected, rel=1e-9)
    assert period == pytest.approx(expected, rel=0.01)
    times = np.arange(len(y)) / FPS
    omega = 2 * math.pi / expected
    closed = (
        swing[0]
        * np.exp(-decay * times)
        * (np.cos(omega * times) + decay / omega * np.sin(omega * times))
    )
    early = times < 3
    assert np.abs(swing - closed)[early].max() < 0.05 * abs(swing[0])


@pytest.mark.parametrize("stiffness", [20.0, 60.0])
@pytest.mark.parametrize("damping", [0.1, 2.0])
def test_how_low_the_spring_swings(stiffness: float, damping: float) -> None:
    trial = simulate_trial("spring", stiffness, damping)
    labels = trial.labels
    rest = BEAM_M - RELAXED_M - trial.pucks[0].radius - labels["rest_extension_m"]
    above = trial.tracks[0, 0, 1] - rest
    shrunk = above * math.exp(-damping / (2 * MASS_KG) * labels["period_seconds"] / 2)
    assert labels["lowest_height_m"] == pytest.approx(rest - shrunk, abs=0.005)


def test_where_the_puck_rests_after_the_ramp() -> None:
    trial = simulate_trial("ramp", 0.1, 0.5, frames=144)
    assert trial.labels["rest_position_m"] == trial.labels["final_position_m"]
    assert trial.labels["rest_position_m"] == pytest.approx(trial.tracks[-1, 0, 0])
    assert np.ptp(trial.tracks[-12:, 0, 0]) < 0.001
    assert math.isnan(simulate_trial("ramp", 0.1, 0.5, frames=24).labels["rest_position_m"])


@pytest.mark.parametrize(
    ("scene", "outcomes"),
    [
        ("ramp", "exit_seconds exit_speed_m_s impact_speed_m_s bounce_height_m final_position_m"),
        (
            "collision",
            "launch_speed_m_s impact_seconds impact_speed_m_s striker_speed_m_s struck_speed_m_s "
            "struck_distance_m",
        ),
        ("fall", "drop_height_m fall_seconds impact_speed_m_s bounce_height_m final_height_m"),
        ("spring", "period_seconds rest_extension_m lowest_height_m final_height_m"),
    ],
)
def test_outcomes_of_clips_of_two_seconds_are_known(scene: str, outcomes: str) -> None:
    first, second = SCENES[scene].properties
    for a in first.levels(3):
        for b in second.levels(3):
            labels = simulate_trial(scene, a, b).labels
            assert set(labels) - {first.label, second.label, "rest_position_m"} == set(
                outcomes.split()
            )
            assert all(math.isfinite(labels[name]) for name in outcomes.split()), labels


@pytest.mark.parametrize("scene", SCENES)
def test_levels_are_the_range_in_even_steps(scene: str) -> None:
    for prop in SCENES[scene].properties:
        levels = prop.levels(5)
        steps = np.diff(np.log(levels)) if prop.geometric else np.diff(levels)
        assert steps == pytest.approx(steps[0])
        assert (levels[0], levels[-1]) == pytest.approx((prop.low, prop.high))


@pytest.mark.parametrize("fps", [10.0, 24.0, 30.0, 59.94])
def test_the_frame_rate_does_not_change_the_motion(fps: float) -> None:
    fine = SCENES["ramp"].simulate(0.5, 0.2, np.random.default_rng(0), 96, 48.0)
    made = SCENES["ramp"].simulate(0.5, 0.2, np.random.default_rng(0), round(1.9 * fps), fps)
    at = np.arange(len(made.tracks)) / fps
    for axis in range(2):
        expected = np.interp(at, np.arange(96) / 48.0, fine.tracks[:, 0, axis])
        assert np.abs(made.tracks[:, 0, axis] - expected).max() < 0.03


def test_every_scene_shows_each_of_its_properties_in_the_motion() -> None:
    for name, scene in SCENES.items():
        first, second = scene.properties
        low = simulate_trial(name, first.low, second.low).tracks
        assert np.abs(simulate_trial(name, first.high, second.low).tracks - low).max() > 0.1
        assert np.abs(simulate_trial(name, first.low, second.high).tracks - low).max() > 0.02


def test_tracks_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"tracks have shape \(3, 2\), not \(frames, 1, 2\)"):
        Trial(
            prisms=(), pucks=(Puck(radius=0.1, depth=0.1),), tracks=np.zeros((3, 2)), labels={},
            view=(0, 0, 1, 1),
        )  # fmt: skip
