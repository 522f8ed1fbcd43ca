"""The floors of `setup.cfg` become constraints, which `make test-lowest` installs."""

from pathlib import Path

import pytest

from tests.helpers.lowest_versions import constraints


def settings(folder: Path, requirements: str) -> Path:
    path = folder / "setup.cfg"
    path.write_text(f"""
[options]
install_requires =
    {requirements}
[options.extras_require]
extra =
    b>=2
""")
    return path


def test_every_requirement_of_ours_has_one_floor():
    lines = list(constraints(["embedded", "flow", "test", "tensorboard", "torchcodec", "lint"]))
    assert "numpy==2" in lines
    assert len(lines) == len({line.partition("==")[0] for line in lines}) > 25


def test_a_floor_becomes_a_constraint(tmp_path):
    assert list(constraints(["extra"], settings(tmp_path, "a-c>=1.5"))) == ["a-c==1.5", "b==2"]


@pytest.mark.parametrize(
    ("requirements", "extras", "reason"),
    [
        ("a", ["extra"], "a is not of the form name>=version"),
        ("a~=1.0", ["extra"], "a~=1.0 is not of the form"),
        ("b>=1", ["extra"], "b has two floors"),
        ("a>=1", ["other"], "has no extra other"),
    ],
)
def test_what_has_no_floor_is_refused(tmp_path, requirements, extras, reason):
    with pytest.raises(ValueError, match=reason):
        list(constraints(extras, settings(tmp_path, requirements)))


def test_torch_is_newer_than_its_slow_and_wrong_conv3d():
    """Torch 2.9's Conv3d in bfloat16, with which V-JEPA 2 begins, was both."""
    torch = next(line for line in constraints([]) if line.startswith("torch=="))
    assert tuple(map(int, torch.removeprefix("torch==").split("."))) >= (2, 10)
