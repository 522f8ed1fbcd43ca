"""The continuous channel."""

import numpy as np
import pytest
import torch

from pipeline.agents import CHANNELS, build_channel
from pipeline.config import build_config


def test_stored_messages_are_read_back_or_refused():
    config = build_config("default", ("mass",), agents=2, heads=1, vocab=2, channel="continuous")
    channel = build_channel(config)
    values = channel.final(torch.tensor([[[0.5, -4.0]], [[0.0, 1.0]]]))
    assert values.abs().max() < 1
    line = channel.to_json(values.numpy())
    assert line["message"] == "0.46 -1.00 | 0.00 0.76"
    assert np.array_equal(channel.from_json(line), values.numpy())
    assert channel.read(values).shape == (channel.message_size,)
    for wrong in (None, [[0.1, 0.2]], [[0.1], [0.2]], [[0.1, "0.2"], [0.1, 0.1]]):
        with pytest.raises(ValueError, match="None" if wrong is None else "0.1"):
            channel.from_json({"values": wrong})


def test_channels_are_found_by_their_files():
    assert list(CHANNELS) == ["continuous", "discrete"]
