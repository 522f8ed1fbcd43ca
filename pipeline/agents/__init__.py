"""TODO"""

from pipeline.agents.build import Blueprint, begin, fold, fresh_receivers, fresh_senders
from pipeline.agents.inference import Voice
from pipeline.agents.modules import (
    PUBLISHED_PROPERTIES,
    CompositionalReceiver,
    CompositionalSender,
    MultiAgentSender,
    Sender,
    TemporalEncoder,
    agent_views,
    build_sender,
    checkpoint_key,
    message_text,
    values_text,
)
from pipeline.agents.stacked import (
    Stack,
    Views,
    encode,
    receiver_logits,
    sender_logits,
    stack_layers,
    stack_receivers,
    stacked_linear,
    unstack_receiver,
    unstack_sender,
)

__all__ = [
    "PUBLISHED_PROPERTIES",
    "Blueprint",
    "CompositionalReceiver",
    "CompositionalSender",
    "MultiAgentSender",
    "Sender",
    "Stack",
    "TemporalEncoder",
    "Views",
    "Voice",
    "agent_views",
    "begin",
    "build_sender",
    "checkpoint_key",
    "encode",
    "fold",
    "fresh_receivers",
    "fresh_senders",
    "message_text",
    "receiver_logits",
    "sender_logits",
    "stack_layers",
    "stack_receivers",
    "stacked_linear",
    "unstack_receiver",
    "unstack_sender",
    "values_text",
]
