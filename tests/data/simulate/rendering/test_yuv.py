import numpy as np

from data.simulate.rendering.yuv import to_yuv


def test_colours_are_those_of_bt601() -> None:
    offsets = np.array([16, 128, 128])
    red, white = offsets + to_yuv(np.array([[1.0, 0, 0], [1, 1, 1]]), warmth=0.0)
    np.testing.assert_allclose(red, (81.5, 90.2, 240.0), atol=0.1)
    np.testing.assert_allclose(white, (235, 128, 128), atol=0.1)
