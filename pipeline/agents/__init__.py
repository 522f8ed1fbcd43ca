"""The networks: senders, receivers, the channel between them, and many seeds' weights stacked."""

from pipeline.agents.build import AgentFactory, fold_axes, fresh_senders, seeded
from pipeline.agents.channels import CHANNELS, build_channel
from pipeline.agents.channels.base import Channel
from pipeline.agents.inference import FastSender
from pipeline.agents.message_format import message_text, values_text
from pipeline.agents.modules import (
    PUBLISHED_PROPERTIES,
    CompositionalReceiver,
    CompositionalSender,
    MultiAgentSender,
    RidgeEncoder,
    Sender,
    TemporalEncoder,
    build_sender,
    checkpoint_key,
    logarithms,
    sender_class,
    sender_that_wrote,
)
from pipeline.agents.noise import GENERATOR, Noise
from pipeline.agents.pretrained import read_config, refuse_unusable, with_weights
from pipeline.agents.stacked import (
    AgentWindows,
    Stack,
    encode,
    encode_shared,
    receiver_logits,
    sender_logits,
    stack_encoders,
    stack_layers,
    stack_receivers,
    stack_senders,
    stacked_linear,
    unstack_encoder,
    unstack_receiver,
    unstack_sender,
)
from pipeline.agents.windows import agent_views, agent_windows, window_of

__all__ = [
    "CHANNELS",
    "GENERATOR",
    "PUBLISHED_PROPERTIES",
    "AgentFactory",
    "AgentWindows",
    "Channel",
    "CompositionalReceiver",
    "CompositionalSender",
    "FastSender",
    "MultiAgentSender",
    "Noise",
    "RidgeEncoder",
    "Sender",
    "Stack",
    "TemporalEncoder",
    "agent_views",
    "agent_windows",
    "build_channel",
    "build_sender",
    "checkpoint_key",
    "encode",
    "encode_shared",
    "fold_axes",
    "fresh_senders",
    "logarithms",
    "message_text",
    "read_config",
    "receiver_logits",
    "refuse_unusable",
    "seeded",
    "sender_class",
    "sender_logits",
    "sender_that_wrote",
    "stack_encoders",
    "stack_layers",
    "stack_receivers",
    "stack_senders",
    "stacked_linear",
    "unstack_encoder",
    "unstack_receiver",
    "unstack_sender",
    "values_text",
    "window_of",
    "with_weights",
]
