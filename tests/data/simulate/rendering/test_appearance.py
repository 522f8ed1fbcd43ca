import numpy as np
import pytest

from data.simulate.rendering.appearance import texture


def test_an_unknown_texture() -> None:
    with pytest.raises(ValueError, match="no texture is called 'felt'"):
        texture("felt", 0)


def test_textures_repeat_without_a_seam() -> None:
    for pattern in ("speckle", "wood"):
        made = texture(pattern, 0)
        inner = np.abs(np.diff(made, axis=0)).max()
        assert np.abs(made[0] - made[-1]).max() <= 1.5 * inner
