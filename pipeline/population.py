"""The agents of many seeds at once: the nets of `agents.py` with their weights stacked.

Every weight has a leading seed axis S, then an axis of agents A (senders) or receivers R, so that
one batched matrix product serves them all. What is computed for one seed is the same bits whatever
seeds
stand beside it, as long as S itself stays the same: `fit.py` always fills S with padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.agents import (
    CompositionalReceiver,
    CompositionalSender,
    MultiAgentSender,
    agent_windows,
    head_names,
)

Stack = dict[str, Tensor]


@dataclass(frozen=True)
class Views:
    """What each agent sees of every clip: its window, padded for the first convolution.

    `padded` is one float32 tensor per agent, (S, N, width + 2 * (kernel // 2), D), zeros at both
    ends; S is 1 where all seeds see the same.
    """

    padded: tuple[Tensor, ...]
    kernel: int

    @classmethod
    def of(cls, features: Tensor, agents: int) -> Views:
        """Cuts features (S, N, T, D), or (N, T, D) for all seeds, into the agents' windows."""
        features = features if features.ndim == 4 else features.unsqueeze(0)
        windows = agent_windows(features.shape[2], agents)
        kernel = min(3, len(windows[0]))
        pad = (0, 0, kernel // 2, kernel // 2)
        return cls(
            tuple(F.pad(features[:, :, w.start : w.stop].float(), pad) for w in windows), kernel
        )

    def gather(self, clips: Tensor) -> Tensor:
        """Clips (S, rows) -> the first convolution's inputs (S, A, rows, positions, kernel * D).

        A run of `kernel` steps is contiguous in memory, so the unfolded view costs nothing before
        the clips are copied out of it.
        """
        unfolded = []
        for padded in self.padded:
            seeds, count, steps, dim = padded.shape
            shape = (seeds, count, steps - self.kernel + 1, self.kernel * dim)
            view = padded.as_strided(shape, (count * steps * dim, steps * dim, dim, 1))
            seed = torch.arange(len(clips) if seeds > 1 else 1, device=clips.device)
            unfolded.append(view[seed.unsqueeze(1), clips])
        return torch.stack(unfolded, dim=1)


def stack_layers(
    nets: Sequence[dict[str, tuple[Tensor, Tensor]]], lead: tuple[int, int], device: torch.device
) -> Stack:
    """Layers (weight (outputs, inputs), bias) of many nets -> one stack.

    The nets stand in the order of `lead`, (S, A): all of the first seed's, then the second's.
    Weights become (S, A, inputs, outputs), biases (S, A, outputs), leaves that take gradients.
    """
    stack = {}
    for name in nets[0]:
        weights = torch.stack([net[name][0].detach().T for net in nets])
        biases = torch.stack([net[name][1].detach() for net in nets])
        stack[f"{name}.weight"] = weights.unflatten(0, lead).to(device).requires_grad_()
        stack[f"{name}.bias"] = biases.unflatten(0, lead).to(device).requires_grad_()
    return stack


def stack_senders(
    senders: Sequence[CompositionalSender | MultiAgentSender], device: torch.device
) -> Stack:
    """One sender (of one or several agents) per seed -> a stack with axes S, A."""
    agents = [agent for sender in senders for agent in _agents(sender)]
    nets = []
    for agent in agents:
        state = agent.encoder.state_dict()
        heads = _heads(agent)
        nets.append(
            {
                "conv1": (_unfolded(state["temporal.0.weight"]), state["temporal.0.bias"]),
                "conv2": (_unfolded(state["temporal.2.weight"]), state["temporal.2.bias"]),
                "fc": (state["fc.0.weight"], state["fc.0.bias"]),
                "heads": (torch.cat([h.weight for h in heads]), torch.cat([h.bias for h in heads])),
            }
        )
    return stack_layers(nets, (len(senders), -1), device)


def unstack_sender(stack: Stack, seed: int, sender: CompositionalSender | MultiAgentSender) -> None:
    """Copies one seed's weights into a module of the same sizes: `stack_senders` undone."""
    for number, agent in enumerate(_agents(sender)):
        own = {name: value.detach()[seed, number] for name, value in stack.items()}
        shapes = {name: value.shape for name, value in agent.encoder.state_dict().items()}
        agent.encoder.load_state_dict(
            {
                "temporal.0.weight": _folded(own["conv1.weight"], shapes["temporal.0.weight"]),
                "temporal.0.bias": own["conv1.bias"],
                "temporal.2.weight": _folded(own["conv2.weight"], shapes["temporal.2.weight"]),
                "temporal.2.bias": own["conv2.bias"],
                "fc.0.weight": own["fc.weight"].T,
                "fc.0.bias": own["fc.bias"],
            }
        )
        heads = _heads(agent)
        weights = own["heads.weight"].T.chunk(len(heads))
        biases = own["heads.bias"].chunk(len(heads))
        for head, weight, bias in zip(heads, weights, biases, strict=True):
            head.load_state_dict({"weight": weight, "bias": bias})


def _unfolded(weight: Tensor) -> Tensor:
    """A convolution's weight (out, in, kernel) -> (out, kernel * in), time-major."""
    return weight.permute(0, 2, 1).flatten(1)


def _folded(weight: Tensor, shape: torch.Size) -> Tensor:
    """The stack's (kernel * in, out) -> (out, in, kernel)."""
    out, inputs, kernel = shape
    return weight.view(kernel, inputs, out).permute(2, 1, 0)


def encode(stack: Stack, x: Tensor) -> Tensor:
    """The encoders: (S, A, rows, positions, kernel * D) -> (S, A, rows, hidden_dim)."""
    kernel = stack["conv2.weight"].shape[2] // stack["conv1.weight"].shape[3]
    h = F.relu(stacked_linear(stack, "conv1", x))  # (S, A, rows, positions, 256)
    h = F.pad(h, (0, 0, kernel // 2, kernel // 2))
    positions = h.shape[3] - kernel + 1
    h = torch.cat([h[:, :, :, tap : tap + positions] for tap in range(kernel)], dim=-1)
    h = F.relu(stacked_linear(stack, "conv2", h)).mean(dim=3)  # (S, A, rows, 128)
    return F.relu(stacked_linear(stack, "fc", h))


def sender_logits(stack: Stack, x: Tensor, heads: int) -> Tensor:
    """(S, A, rows, positions, kernel * D) -> (S, A, rows, heads, vocab)."""
    return stacked_linear(stack, "heads", encode(stack, x)).unflatten(-1, (heads, -1))


def stack_receivers(
    receivers: Sequence[Sequence[CompositionalReceiver]], device: torch.device
) -> Stack:
    """R receivers per seed -> a stack with axes S, R."""
    nets = []
    for receiver in (receiver for own in receivers for receiver in own):
        state = receiver.state_dict()
        names = head_names(receiver.properties)
        nets.append(
            {
                "shared0": (state["shared.0.weight"], state["shared.0.bias"]),
                "shared2": (state["shared.2.weight"], state["shared.2.bias"]),
                "heads": (
                    torch.cat([state[f"{name}.weight"] for name in names]),
                    torch.cat([state[f"{name}.bias"] for name in names]),
                ),
            }
        )
    return stack_layers(nets, (len(receivers), -1), device)


def unstack_receiver(stack: Stack, seed: int, number: int, receiver: CompositionalReceiver) -> None:
    """Copies the weights of one receiver of one seed into a module of the same sizes."""
    own = {name: value[seed, number] for name, value in stack.items()}
    state = {
        "shared.0.weight": own["shared0.weight"].T,
        "shared.0.bias": own["shared0.bias"],
        "shared.2.weight": own["shared2.weight"].T,
        "shared.2.bias": own["shared2.bias"],
    }
    for column, head in enumerate(head_names(receiver.properties)):
        state[f"{head}.weight"] = own["heads.weight"][:, column : column + 1].T
        state[f"{head}.bias"] = own["heads.bias"][column : column + 1]
    receiver.load_state_dict(state)


def receiver_logits(stack: Stack, messages_a: Tensor, messages_b: Tensor) -> Tensor:
    """Two (S, pairs, msg_dim) -> (S, R, pairs, properties); above 0: the first clip has more."""
    receivers = stack["shared0.weight"].shape[1]
    x = torch.cat([messages_a, messages_b], dim=-1)
    x = x.unsqueeze(1).expand(-1, receivers, -1, -1)  # every receiver hears the same
    h = F.relu(stacked_linear(stack, "shared0", x))
    h = F.relu(stacked_linear(stack, "shared2", h))
    return stacked_linear(stack, "heads", h)


def stacked_linear(stack: Stack, name: str, x: Tensor) -> Tensor:
    """(S, A, ..., inputs) -> (S, A, ..., outputs), each of the S * A nets with its own weights."""
    weight, bias = stack[f"{name}.weight"].flatten(0, 1), stack[f"{name}.bias"].flatten(0, 1)
    rows = x.flatten(0, 1).flatten(1, -2)  # (S * A, rows, inputs)
    return torch.baddbmm(bias.unsqueeze(1), rows, weight).view(*x.shape[:-1], weight.shape[-1])


def _agents(sender: CompositionalSender | MultiAgentSender) -> list[CompositionalSender]:
    modules = sender.senders if isinstance(sender, MultiAgentSender) else [sender]
    return [module for module in modules if isinstance(module, CompositionalSender)]


def _heads(agent: CompositionalSender) -> list[nn.Linear]:
    heads = [agent.head] if agent.n_heads == 1 else list(agent.heads)
    return [head for head in heads if isinstance(head, nn.Linear)]
