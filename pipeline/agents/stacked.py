"""The agents of many seeds at once: the networks of `modules.py` with their weights stacked.

Every weight has a leading seed axis S, then an axis of agents A (senders) or receivers R, so that
one batched matrix product serves them all. What is computed for one seed is the same bits whatever
other seeds are in the stack, as long as S itself stays the same: `fit.py` fills S with padding.

Agents whose features differ in width or in steps cannot share a product: they are in groups, and
the names in a sender's stack begin with the group's number (`1:conv1.weight`) where there are
several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.agents.drawing import State, stacked_states
from pipeline.agents.modules import (
    CompositionalReceiver,
    CompositionalSender,
    MultiAgentSender,
    RidgeEncoder,
    Sender,
    TemporalEncoder,
    clamped,
    head_names,
)
from pipeline.agents.windows import AgentView, agent_views, repeated_steps

Stack = dict[str, Tensor]


Groups = tuple[tuple[int, ...], ...]  # the agents of each group, by number


@dataclass(frozen=True)
class AgentWindows:
    """What each agent sees of every clip: its window, which the first convolution pads with zeros.

    Agents of a group have windows of the same width, of steps of as many dimensions D. Those next
    to each other whose windows follow each other in one cache are a run, and gathered at once.

    Attributes:
        runs: Of each group its runs, (S, N, agents of the run, width, D) each: views of the
            features that were given, in their precision; S is 1 where all seeds see the same.
        groups: The agents of each group.
    """

    runs: tuple[tuple[Tensor, ...], ...]
    groups: Groups

    @classmethod
    def of(
        cls, features: Tensor | Sequence[Tensor], agents: int, caches: Sequence[int] = ()
    ) -> AgentWindows:
        """Cut the features of one or several caches into the agents' views.

        Args:
            features: of each cache (S, N, T, D), or (N, T, D) for all seeds.
            agents: how many.
            caches: the number of the cache that each agent sees; none: all see the first.
        """
        every = [features] if isinstance(features, Tensor) else list(features)
        every = [array if array.ndim == 4 else array.unsqueeze(0) for array in every]
        steps = [array.shape[2] for array in every]
        views = agent_views(steps, caches or [0] * agents)
        every = [
            array.expand(-1, -1, repeated_steps(steps, number), -1)
            for number, array in enumerate(every)
        ]
        groups = group_agents(views, [array.shape[3] for array in every])
        runs = (_runs([views[agent] for agent in group]) for group in groups)
        return cls(
            tuple(
                tuple(
                    every[cache][:, :, steps.start : steps.stop].unflatten(2, (-1, width))
                    for cache, steps, width in of_group
                )
                for of_group in runs
            ),
            groups,
        )

    @classmethod
    def whole(cls, features: Sequence[Tensor]) -> AgentWindows:
        """Return all the steps of every cache, a window for each cache; features as in `of`."""
        return cls.of(features, len(features), range(len(features)))

    def of_seed(self, seed: int) -> AgentWindows:
        """Return what agents see in one seed, S = 1."""
        return self.of_seeds(seed, seed + 1)

    def of_seeds(self, start: int, stop: int) -> AgentWindows:
        """Return what agents see in some seeds, S = stop - start; 1 where all see the same."""
        return self._changed(lambda run: run[start:stop])

    def repeated(self, times: int) -> AgentWindows:
        """Return the windows of all seeds several times over, S * times."""
        return self._changed(lambda run: run.repeat(times, 1, 1, 1, 1))

    def _changed(self, change: Callable[[Tensor], Tensor]) -> AgentWindows:
        runs = tuple(
            tuple(run if len(run) == 1 else change(run) for run in of_group)
            for of_group in self.runs
        )
        return AgentWindows(runs, self.groups)

    def gather(self, clips: Tensor) -> list[Tensor]:
        """Clips (S, rows) -> each group's inputs (S, A, rows, positions, kernel * D), float32.

        A run of `kernel` steps of a padded clip is contiguous in memory, so the unfolded view costs
        nothing before it is copied into the group's inputs.
        """
        inputs = [[_unfolded_clips(run, clips) for run in of_group] for of_group in self.runs]
        return [parts[0] if len(parts) == 1 else torch.cat(parts, dim=1) for parts in inputs]


def _runs(views: Sequence[AgentView]) -> list[tuple[int, range, int]]:
    """Return the cache, steps and width of windows of agents that follow each other.

    >>> _runs(agent_views([8], [0, 0]))
    [(0, range(0, 8), 4)]
    """
    runs: list[tuple[int, range, int]] = []
    for view in views:
        width, start = len(view.window), view.window.start
        if runs and runs[-1][0] == view.cache and runs[-1][1].stop == start:
            start = runs.pop()[1].start
        runs.append((view.cache, range(start, view.window.stop), width))
    return runs


def _unfolded_clips(run: Tensor, clips: Tensor) -> Tensor:
    """Return clips (S, rows) as a run's agents see them: (S, A, rows, positions, kernel * D)."""
    if len(run) == 1:
        chosen = run[0, clips]  # (S, rows, A, width, D)
    else:
        seed = torch.arange(len(clips), device=clips.device)
        chosen = run[seed.unsqueeze(1), clips]
    kernel = min(3, run.shape[3])
    padded = F.pad(chosen, (0, 0, kernel // 2, kernel // 2)).contiguous()
    seeds, rows, agents, steps, dim = padded.shape
    shape = (seeds, agents, rows, steps - kernel + 1, kernel * dim)
    by_clip = agents * steps * dim
    strides = (rows * by_clip, steps * dim, by_clip, dim, 1)
    unfolded = padded.as_strided(shape, strides)
    return unfolded.to(torch.float32, memory_format=torch.contiguous_format).contiguous()


def group_agents(views: Sequence[AgentView], dims: Sequence[int]) -> Groups:
    """Agents that can share a product: as many steps of as many dimensions (`dims` of each cache).

    >>> group_agents(agent_views([8, 1], [0, 1, 0]), [1024, 384])
    ((0, 2), (1,))
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for agent, view in enumerate(views):
        groups.setdefault((len(view.window), dims[view.cache]), []).append(agent)
    return tuple(tuple(agents) for agents in groups.values())


def stack_layers(nets: Sequence[dict[str, tuple[Tensor, Tensor]]]) -> Stack:
    """Return layers of A nets of each of S seeds as one stack, where they are.

    Args:
        nets: Of each of the A nets its layers: weight (S, outputs, inputs), bias (S, outputs).

    Returns:
        Weights (S, A, inputs, outputs) and biases (S, A, outputs), leaves that take gradients.
    """
    stack = {}
    for name in nets[0]:
        weights = torch.stack([net[name][0].detach().transpose(1, 2) for net in nets], dim=1)
        biases = torch.stack([net[name][1].detach() for net in nets], dim=1)
        stack[f"{name}.weight"] = weights.requires_grad_()
        stack[f"{name}.bias"] = biases.requires_grad_()
    return stack


def stack_senders(
    senders: Sequence[Sender], device: torch.device, groups: Groups | None = None
) -> Stack:
    """One sender (of one or several agents) per seed -> a stack with axes S, A of the group."""
    (state,) = stacked_states([[sender] for sender in senders], device)
    return stack_sender_states(state, groups)


def stack_sender_states(state: State, groups: Groups | None = None) -> Stack:
    """Return the parameters of a sender of each of S seeds, (S, ...), as `stack_senders` does."""
    agents = _of_agents(state)
    groups = groups or one_group(len(agents))
    stack: Stack = {}
    for number, group in enumerate(groups):
        layers = stack_layers([_agent_layers(agents[agent]) for agent in group])
        stack |= {_prefix(number, groups) + name: value for name, value in layers.items()}
    return stack


def _of_agents(state: State) -> list[State]:
    """Return the parameters of each agent of a sender."""
    numbers = {name.split(".")[1] for name in state if name.startswith("senders.")}
    if not numbers:
        return [state]
    return [part_of(state, f"senders.{number}.") for number in range(len(numbers))]


def _agent_layers(state: State) -> dict[str, tuple[Tensor, Tensor]]:
    heads = part_of(state, "head")  # its one `head`, or the numbers of its `heads`
    kinds = ([v for k, v in heads.items() if k.endswith(end)] for end in ("weight", "bias"))
    weight, bias = (torch.cat(values, dim=1) for values in kinds)
    return encoder_layers(part_of(state, "encoder.")) | {"heads": (weight, bias)}


def part_of(state: State, prefix: str) -> State:
    """Return the tensors whose names begin so, named by the rest."""
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def unstack_sender(stack: Stack, seed: int, sender: Sender, groups: Groups | None = None) -> None:
    """Copies one seed's weights into a module of the same sizes: `stack_senders` undone."""
    agents = _agents(sender)
    groups = groups or one_group(len(agents))
    for group, of_group in zip(groups, _by_group(stack, groups), strict=True):
        for number, agent in enumerate(group):
            weights = {name: value.detach()[seed, number] for name, value in of_group.items()}
            _unstack_agent(weights, agents[agent])


def _unstack_agent(weights_of: Stack, agent: CompositionalSender) -> None:
    unstack_encoder(weights_of, agent.encoder)
    heads = _heads(agent)
    weights = weights_of["heads.weight"].T.chunk(len(heads))
    biases = weights_of["heads.bias"].chunk(len(heads))
    for head, weight, bias in zip(heads, weights, biases, strict=True):
        head.load_state_dict({"weight": weight, "bias": bias})


def one_group(agents: int) -> Groups:
    """All agents alike."""
    return (tuple(range(agents)),)


def _prefix(number: int, groups: Groups) -> str:
    return f"{number}:" if len(groups) > 1 else ""


def _by_group(stack: Stack, groups: Groups) -> list[Stack]:
    if len(groups) == 1:
        return [stack]
    return [
        {
            name.removeprefix(f"{number}:"): value
            for name, value in stack.items()
            if name.startswith(f"{number}:")
        }
        for number in range(len(groups))
    ]


def _unfolded(weight: Tensor) -> Tensor:
    """Convolutions' weights (S, out, in, kernel) -> (S, out, kernel * in), time-major."""
    return weight.transpose(2, 3).flatten(2)


def _folded(weight: Tensor, shape: torch.Size) -> Tensor:
    """The stack's (kernel * in, out) -> (out, in, kernel)."""
    out, inputs, kernel = shape
    return weight.view(kernel, inputs, out).permute(2, 1, 0)


def encoder_layers(state: State) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the layers of encoders of S seeds as `stack_layers` takes them; scores are none."""
    layers = {"fc": (state["fc.0.weight"], state["fc.0.bias"])}
    if "scores.weight" in state:  # of a `RidgeEncoder`
        return layers
    convolutions = {
        name: (_unfolded(state[f"{module}.weight"]), state[f"{module}.bias"])
        for name, module in (("conv1", "temporal.0"), ("conv2", "temporal.2"))
    }
    return convolutions | layers


def unstack_encoder(weights: Stack, encoder: TemporalEncoder | RidgeEncoder) -> None:
    """Load one net's layers, cut out of a stack, into an encoder of the same sizes."""
    if isinstance(encoder, RidgeEncoder):
        layer = {"weight": weights["fc.weight"].T, "bias": weights["fc.bias"]}
        encoder.fc[0].load_state_dict(layer)
        return
    shapes = {name: value.shape for name, value in encoder.state_dict().items()}
    encoder.load_state_dict(
        {
            "temporal.0.weight": _folded(weights["conv1.weight"], shapes["temporal.0.weight"]),
            "temporal.0.bias": weights["conv1.bias"],
            "temporal.2.weight": _folded(weights["conv2.weight"], shapes["temporal.2.weight"]),
            "temporal.2.bias": weights["conv2.bias"],
            "fc.0.weight": weights["fc.weight"].T,
            "fc.0.bias": weights["fc.bias"],
        }
    )


def encode(stack: Stack, xs: Sequence[Tensor], groups: Groups) -> Tensor:
    """The encoders: of each group (S, A, rows, positions, kernel * D) -> (S, A, rows, hidden_dim).

    The agents are in their own order again.
    """
    parts = _by_group(stack, groups)
    return _in_order([_encode(part, x) for part, x in zip(parts, xs, strict=True)], groups)


def _in_order(parts: Sequence[Tensor], groups: Groups) -> Tensor:
    """Agents' values (S, A, ...) of each group -> of all agents in their order."""
    if len(parts) == 1:
        return parts[0]
    single = {
        agent: part[:, index : index + 1]
        for part, group in zip(parts, groups, strict=True)
        for index, agent in enumerate(group)
    }
    return torch.cat([single[agent] for agent in sorted(single)], dim=1)


def _encode(stack: Stack, x: Tensor) -> Tensor:
    if "conv1.weight" not in stack:  # of ridge encoders: x is their scores, at one position
        return F.relu(stacked_linear(stack, "fc", x.squeeze(3)))
    return _after_first(stack, F.relu(stacked_linear(stack, "conv1", x)))


def encode_shared(stack: Stack, x: Tensor) -> Tensor:
    """Encode the same clips by each of R encoders, the first layer as one product for all.

    Args:
        stack: Encoders with axes S, R.
        x: Inputs (S, rows, positions, kernel * D), which every encoder of a seed sees.

    Returns:
        (S, R, rows, hidden_dim).
    """
    weight, bias = stack["conv1.weight"], stack["conv1.bias"]
    seeds, count, inputs, outputs = weight.shape
    together = weight.transpose(1, 2).reshape(seeds, inputs, count * outputs)
    rows = x.flatten(1, 2)  # (S, rows * positions, kernel * D)
    h = torch.baddbmm(bias.flatten(1).unsqueeze(1), rows, together)
    h = h.view(*x.shape[:3], count, outputs).permute(0, 3, 1, 2, 4)  # (S, R, rows, positions, 256)
    return _after_first(stack, F.relu(h))


def _after_first(stack: Stack, h: Tensor) -> Tensor:
    kernel = stack["conv2.weight"].shape[2] // stack["conv1.weight"].shape[3]
    h = _Taps.apply(h, kernel)  # (S, A, rows, positions, kernel * 256)
    h = F.relu(stacked_linear(stack, "conv2", h)).mean(dim=3)  # (S, A, rows, 128)
    return F.relu(stacked_linear(stack, "fc", h))


class _Taps(torch.autograd.Function):
    """Steps (..., steps, D), padded, as a convolution sees them: (..., positions, kernel * D)."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, kernel: int) -> Tensor:
        """Lay the steps of each position end to end."""
        ctx.kernel, ctx.steps = kernel, h.shape[-2]
        padded = F.pad(h, (0, 0, kernel // 2, kernel // 2))
        positions = padded.shape[-2] - kernel + 1
        taps = [padded.narrow(-2, tap, positions) for tap in range(kernel)]
        return torch.cat(taps, dim=-1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Sum what comes back to each step, from the last tap to the first."""
        middle, steps = ctx.kernel // 2, ctx.steps
        taps = gradient.chunk(ctx.kernel, dim=-1)
        if ctx.kernel == 2:  # each step is in two positions
            return taps[1].narrow(-2, 0, steps) + taps[0].narrow(-2, 1, steps), None
        total = taps[middle].clone()
        if middle and steps > 1:
            total.narrow(-2, 1, steps - 1).add_(taps[2].narrow(-2, 0, steps - 1))
            total.narrow(-2, 0, steps - 1).add_(taps[0].narrow(-2, 1, steps - 1))
        return total, None


def sender_logits(
    stack: Stack, xs: Sequence[Tensor], heads: int, groups: Groups, clamp: float = 0.0
) -> Tensor:
    """Of each group (S, A, rows, positions, kernel * D) -> (S, A, rows, heads, vocab)."""
    logits = [
        stacked_linear(part, "heads", _encode(part, x))
        for part, x in zip(_by_group(stack, groups), xs, strict=True)
    ]
    return clamped(_in_order(logits, groups).unflatten(-1, (heads, -1)), clamp)


def stack_receivers(
    receivers: Sequence[Sequence[CompositionalReceiver]], device: torch.device
) -> Stack:
    """R receivers per seed -> a stack with axes S, R."""
    return stack_receiver_states(stacked_states(receivers, device))


def stack_receiver_states(states: Sequence[State]) -> Stack:
    """Return the parameters of R receivers of each of S seeds, (S, ...) each, as a stack."""
    nets = []
    for state in states:
        heads = {name: value for name, value in state.items() if not name.startswith("shared.")}
        kinds = ([v for k, v in heads.items() if k.endswith(end)] for end in ("weight", "bias"))
        weight, bias = (torch.cat(values, dim=1) for values in kinds)
        nets.append(
            {
                "shared0": (state["shared.0.weight"], state["shared.0.bias"]),
                "shared2": (state["shared.2.weight"], state["shared.2.bias"]),
                "heads": (weight, bias),
            }
        )
    return stack_layers(nets)


def unstack_receiver(stack: Stack, seed: int, number: int, receiver: CompositionalReceiver) -> None:
    """Copies the weights of one receiver of one seed into a module of the same sizes."""
    weights = {name: value[seed, number] for name, value in stack.items()}
    state = {
        "shared.0.weight": weights["shared0.weight"].T,
        "shared.0.bias": weights["shared0.bias"],
        "shared.2.weight": weights["shared2.weight"].T,
        "shared.2.bias": weights["shared2.bias"],
    }
    for column, head in enumerate(head_names(receiver.properties)):
        state[f"{head}.weight"] = weights["heads.weight"][:, column : column + 1].T
        state[f"{head}.bias"] = weights["heads.bias"][column : column + 1]
    receiver.load_state_dict(state)


def receiver_logits(stack: Stack, pairs: Tensor) -> Tensor:
    """Return what receivers answer about pairs; above 0: the first clip has more.

    Args:
        stack: Receivers with axes S, R.
        pairs: Two messages end to end, (S, pairs, 2 * message_size).

    Returns:
        (S, R, pairs, properties).
    """
    receivers = stack["shared0.weight"].shape[1]
    x = pairs.unsqueeze(1).expand(-1, receivers, -1, -1)  # every receiver reads the same
    h = F.relu(stacked_linear(stack, "shared0", x))
    h = F.relu(stacked_linear(stack, "shared2", h))
    return stacked_linear(stack, "heads", h)


def stacked_linear(stack: Stack, name: str, x: Tensor) -> Tensor:
    """(S, A, ..., inputs) -> (S, A, ..., outputs), each of the S * A nets with its own weights."""
    weight, bias = stack[f"{name}.weight"].flatten(0, 1), stack[f"{name}.bias"].flatten(0, 1)
    rows = x.flatten(0, 1).flatten(1, -2)  # (S * A, rows, inputs)
    return torch.baddbmm(bias.unsqueeze(1), rows, weight).view(*x.shape[:-1], weight.shape[-1])


def _agents(sender: Sender) -> list[CompositionalSender]:
    modules = sender.senders if isinstance(sender, MultiAgentSender) else [sender]
    return [module for module in modules if isinstance(module, CompositionalSender)]


def _heads(agent: CompositionalSender) -> list[nn.Linear]:
    heads = [agent.head] if agent.n_heads == 1 else list(agent.heads)
    return [head for head in heads if isinstance(head, nn.Linear)]
