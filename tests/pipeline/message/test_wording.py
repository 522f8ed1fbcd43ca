"""Words and units of properties."""

import pytest

from pipeline.message import wording_for
from pipeline.message.wording import numeral


@pytest.mark.parametrize(
    ("label", "unit", "high"),
    [
        ("mass", "g", "heavy"),
        ("density", "g/ml", "dense"),
        ("friction", "", "rough"),
        ("stiffness_n_m", "N/m", "stiff"),
        ("damping_n_s_m", "N s/m", "strongly damped"),
        ("launch_speed_m_s", "m/s", "high launch speed"),
        ("rest_extension_m", "m", "high rest extension"),
        ("weirdness", "", "high weirdness"),
        ("_s", "", "high s"),
    ],
)
def test_properties_have_words_and_units(label, unit, high):
    words = wording_for(label)
    assert (words.unit, words.adjective("high")) == (unit, high)


def test_ranges_read_as_people_write_them():
    assert wording_for("mass").span(61.04, 213.9) == "61–214 g"
    assert wording_for("friction").span(0.05, 0.163) == "0.05–0.16"
    assert wording_for("mass").span(67.0, 67.0) == "67 g"
    assert numeral(0.0) == "0"
