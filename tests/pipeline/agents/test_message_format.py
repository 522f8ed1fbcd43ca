"""The text form of messages."""

from pipeline.agents import message_text


def test_messages_read_as_the_design_says():
    assert message_text([[3, 7], [1, 2]]) == "3-7 | 1-2"
