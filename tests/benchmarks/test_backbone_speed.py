"""The speed script: that it runs, and that its columns hold."""

import pytest

from benchmarks import backbone_speed


@pytest.mark.slow
def test_its_rows_say_how_fast_and_how_exact(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--only efficientnet_lite0 --device cpu --clips 1 --precision fp32"
    backbone_speed.main(words.split())
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = {line[1]: line[2:] for line in lines if line[0] == "efficientnet_lite0"}
    assert list(rows) == ["plain", "fp32"]
    for columns in rows.values():
        rate, unit, _, share, cosine, _ = columns
        assert unit == "frames/s"
        assert float(rate) > 0
        assert 0 < float(share.rstrip("%")) < 150
        assert float(cosine) > 0.99
    assert float(rows["fp32"][-2]) == 1
    assert float(rows["fp32"][-1]) < 1e-5
