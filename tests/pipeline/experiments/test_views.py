"""How views are made: frames and files by output, and no cache of other features is taken."""

from dataclasses import replace

import pytest

from data import cache
from data.errors import HeliographError, InvalidValueError
from pipeline.experiments.recipe import AgentView
from pipeline.experiments.views import ViewFeatures
from tests.helpers.features import make_features

LITE0 = "efficientnet_lite0"


def seen(by=None, /, **view):
    return ViewFeatures.of(AgentView(name="eye", **view), by)


@pytest.mark.parametrize(
    ("view", "backbone", "frames", "steps", "name"),
    [
        ({}, None, 8, 8, f"{LITE0}-8steps"),
        ({"pool": "pooled"}, None, 8, 8, f"{LITE0}-8steps"),  # as without: one file
        ({"still": True}, None, 1, 1, f"{LITE0}-still"),
        ({"steps": 4}, "vjepa2_vitl", 8, 4, "vjepa2_vitl-4steps"),
        ({"steps": 15, "pool": "motion3"}, None, 16, 15, f"{LITE0}-motion3-15steps"),
        ({"frames": 16, "pool": "motion3"}, None, 16, 15, f"{LITE0}-motion3-15steps"),
        ({"frames": 16, "pool": "motion"}, "vjepa2_vitl", 16, 7, "vjepa2_vitl-motion1-7steps"),
        ({"steps": 3, "pool": "grid4+motion4"}, "mapped", 8, 3, "mapped-grid4+motion4-3steps"),
        ({"steps": 3, "pool": "grid4"}, "mapped", 6, 3, "mapped-grid4-3steps"),
    ],
)
@pytest.mark.usefixtures("mapped")
def test_frames_and_file_follow_from_the_output(view, backbone, frames, steps, name):
    found = seen(backbone, **view)
    assert (found.frames, found.steps, found.name) == (frames, steps, name)
    assert found.sampling.frames == frames


@pytest.mark.usefixtures("mapped")
def test_the_loaded_backbone_says_the_same():
    for pool, frames in ((None, 8), ("motion2", 8), ("grid2", 8)):
        found = seen("mapped", frames=frames, pool=pool)
        assert found.load(device="cpu", hub_dir=None).steps(frames) == found.steps


def test_a_view_has_a_backbone_of_its_own_until_the_user_names_another():
    own = {"backbone": "timm:vit_tiny_patch16_224", "weights": "random", "pool": "grid2"}
    assert seen(**own).name == "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k-random-grid2-8steps"
    assert seen(LITE0, **own).name == f"{LITE0}-grid2-8steps"


@pytest.mark.parametrize(
    ("view", "backbone", "sentence"),
    [
        ({"pool": "motion99"}, None, "the view 'eye': motion99 has 99 x 99 cells"),
        ({"pool": "motion3"}, "tiny", "the view 'eye': tiny has one output alone"),
        ({"frames": 5}, "tiny", "5 frames: tiny takes 2 for a step, and 2 more"),
        ({"frames": 1, "pool": "motion"}, None, "1 frame: efficientnet_lite0 takes 2 for motion1"),
        ({"still": True}, "tiny", "takes 2 at once: name an image model"),
    ],
)
@pytest.mark.usefixtures("tiny")
def test_what_cannot_be_seen_is_one_sentence(view, backbone, sentence):
    with pytest.raises(InvalidValueError) as error:
        seen(backbone, **view)
    assert sentence in str(error.value)


def test_features_that_were_made_otherwise_are_not_taken(tmp_path):
    target = tmp_path / "made.h5"
    features = make_features()  # (56, 4, 12)
    made = {"name": LITE0, "output": "motion3", "source": "tests"}
    count, steps, _ = features.features.shape
    view = {"pool": "motion3", "steps": steps}
    sampler = seen(**view).sampling.describe()
    cache.save(replace(features, fingerprint=made, sampler=sampler), target)
    assert not seen(**view).has_all(tmp_path / "none.h5", range(count))
    assert seen(**view).has_all(target, range(count))
    assert not seen(**view).has_all(target, range(count + 1))
    for other in ({**view, "pool": "motion2"}, {**view, "steps": steps + 1}, {"steps": steps}):
        with pytest.raises(HeliographError, match="choose another --out"):
            seen(**other).has_all(target, range(count))


def test_pixels_are_eyes_without_a_network():
    eye = seen(backbone="pixels", pool="motion8", frames=9)
    assert (eye.name, eye.steps, eye.frames) == ("pixels-motion8-8steps", 8, 9)
    assert eye.load(device="cpu", hub_dir=None).dim == 64
