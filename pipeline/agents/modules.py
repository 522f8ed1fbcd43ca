"""The agents of the paper: a temporal encoder, senders of symbols, receivers of pairs.

Architecture, sizes and state-dict names are those of "Emergent Compositional Communication for
Latent World Properties" (arXiv 2604.03266) and of its published checkpoints, so that these load
here and ours load there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from data.errors import HeliographError
from pipeline.agents.pretrained import Pretrained
from pipeline.agents.windows import agent_views, repeated_steps
from pipeline.config import RIDGE, TrainConfig

PUBLISHED_PROPERTIES = ("elasticity", "friction")
Features = Tensor | np.ndarray


class TemporalEncoder(nn.Module):
    """Two convolutions over time, a mean over time, and a linear layer, as in the paper."""

    def __init__(self, hidden_dim: int = 128, input_dim: int = 384, n_frames: int = 8) -> None:
        super().__init__()
        kernel = min(3, n_frames)
        self.temporal = nn.Sequential(
            nn.Conv1d(input_dim, 256, kernel, padding=kernel // 2),
            nn.ReLU(),
            nn.Conv1d(256, 128, kernel, padding=kernel // 2),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
        )
        self.fc = nn.Sequential(nn.Linear(128, hidden_dim), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, input_dim) -> (batch, hidden_dim)."""
        return self.fc(
            self.temporal(x.transpose(1, 2)).squeeze(-1)
        )  # Conv1d wants (batch, dim, frames)


class RidgeEncoder(nn.Module):
    """A linear score for each property from all the steps of a window, and a layer over the scores.

    The scores are made by ridge regression and stay as they are; `pipeline.training` sets them.
    Where `scale` is above 0, they are of sign(x) log(1 + |x| / scale), each dimension with its own.
    """

    scale: Tensor

    def __init__(self, hidden_dim: int, input_dim: int, n_frames: int, scores: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.zeros(input_dim))
        self.scores = nn.Linear(n_frames * input_dim, scores)
        self.fc = nn.Sequential(nn.Linear(scores, hidden_dim), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, input_dim) -> (batch, hidden_dim)."""
        return self.fc(self.scores(logarithms(x, self.scale).flatten(1)))


def logarithms(x: Tensor, scale: Tensor) -> Tensor:
    """Return sign(x) log(1 + |x| / scale) of features (..., D), and x where scale (D,) is 0."""
    return torch.where(scale > 0, x.sign() * torch.log1p(x.abs() / scale), x)


class PretrainedSender(Pretrained):
    """A sender that is saved and pushed by itself, and opened from there or from a run."""

    @classmethod
    def wrote(cls, stored: Mapping[str, Any]) -> bool:
        """As of `Pretrained`."""
        return sender_that_wrote(stored) is not None

    @classmethod
    def recipe(cls, stored: Mapping[str, Any], tensors: int) -> tuple[Callable[[], Self], str]:
        """As of `Pretrained`; a run's `config.json` has the sizes of its caches as well."""
        of_run = "config" in stored
        if of_run:
            config = TrainConfig.from_json(stored["config"])
            caches = stored["caches"] if "caches" in stored else [stored["cache"]]
            kind, heads = sender_class(config.agents, len(caches)), config.agents * config.heads
        elif "n_heads" not in stored:
            raise ValueError("its config.json is that of something else")
        else:
            kind = MultiAgentSender if "caches" in stored else CompositionalSender
            heads = len(stored.get("caches", "1")) * stored["n_heads"]
        if kind is not cls:
            raise ValueError(f"it is a {kind.__name__}: {kind.__name__}.from_pretrained opens it")
        if heads > tensors:
            raise ValueError(f"it has {heads:,} heads, and its weights are {tensors:,} tensors")
        if not of_run:
            return partial(cls, **stored), ""
        sizes = sender_sizes(
            config,
            steps=[cache["steps"] for cache in caches],
            dims=[cache["dim"] for cache in caches],
            names=[cache.get("name", str(number)) for number, cache in enumerate(caches)],
        )
        build: Callable[[], Any] = partial(build_sender, **sizes)
        return build, f"{checkpoint_key('sender', config.heads, config.vocab)}."


class CompositionalSender(PretrainedSender):
    """One agent: an encoder and `n_heads` heads that send one of `vocab_size` symbols each.

    A sender of one head (the paper's holistic 1x64 control) names it `head`, as its checkpoint
    does; the paper clamps the outputs of that head to +-15 (`logit_clamp`; 0: no clamp). With
    `scores` its encoder is a `RidgeEncoder` of so many, otherwise the paper's.
    """

    def __init__(
        self,
        hidden_dim: int = 128,
        input_dim: int = 384,
        vocab_size: int = 8,
        n_heads: int = 2,
        n_frames: int = 8,
        logit_clamp: float = 0.0,
        scores: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = (
            RidgeEncoder(hidden_dim, input_dim, n_frames, scores)
            if scores
            else TemporalEncoder(hidden_dim, input_dim, n_frames)
        )
        self.input_dim = input_dim
        self.vocab_size = vocab_size
        self.n_heads = n_heads
        self.logit_clamp = float(logit_clamp)
        if n_heads == 1:
            self.head = nn.Linear(hidden_dim, vocab_size)
        else:
            self.heads = nn.ModuleList(nn.Linear(hidden_dim, vocab_size) for _ in range(n_heads))

    @property
    def encoders(self) -> list[TemporalEncoder | RidgeEncoder]:
        """Its one encoder, as `MultiAgentSender` has those of all agents."""
        return [self.encoder]

    def logits(self, x: Features) -> Tensor:
        """(batch, frames, input_dim) -> (batch, n_heads, vocab_size)."""
        h = self.encoder(_tensor(x, self))
        heads = [self.head] if self.n_heads == 1 else self.heads
        return clamped(torch.stack([head(h) for head in heads], dim=1), self.logit_clamp)

    def forward(self, x: Features) -> Tensor:
        """(batch, frames, input_dim) -> tokens int64 (batch, n_heads): each head's likeliest."""
        return self.logits(x).argmax(-1)


def _tensor(x: Features, network: nn.Module) -> Tensor:
    """Return features where the weights of a network are; arrays become of their precision."""
    if isinstance(x, Tensor):
        return x
    weight = next(network.parameters())
    return torch.tensor(np.asarray(x), dtype=weight.dtype, device=weight.device)


def clamped(logits: Tensor, bound: float) -> Tensor:
    """Logits within +-bound; 0 is no bound."""
    return logits.clamp(-bound, bound) if bound else logits


class MultiAgentSender(PretrainedSender):
    """Several senders, each over its own view of the clip; state-dict names `senders.<i>`.

    Args:
        input_dim: Dimension of the features of each cache.
        steps: Time steps of each cache.
        caches: The number of the cache that each agent sees.
        vocab_size: Symbols to choose from.
        n_heads: Symbols of each agent.
        hidden_dim: Width of the encoders.
        logit_clamp: As of `CompositionalSender`.
        scores: As of `CompositionalSender`.
        names: Of the caches. Where there are several, features are given cache by cache.
    """

    def __init__(
        self,
        *,
        input_dim: Sequence[int],
        steps: Sequence[int],
        caches: Sequence[int],
        vocab_size: int,
        n_heads: int,
        hidden_dim: int = 128,
        logit_clamp: float = 0.0,
        scores: int = 0,
        names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.views = agent_views(steps, caches)
        self.senders = nn.ModuleList(
            CompositionalSender(
                hidden_dim,
                input_dim[view.cache],
                vocab_size,
                n_heads,
                len(view.window),
                logit_clamp,
                scores,
            )
            for view in self.views
        )
        self.steps = list(steps)
        self.dims = {cache: input_dim[cache] for cache in caches}
        self.names = list(names) or [str(number) for number in range(len(steps))]

    @property
    def encoders(self) -> list[TemporalEncoder | RidgeEncoder]:
        """The encoder of each agent."""
        return [s.encoder for s in self.senders if isinstance(s, CompositionalSender)]

    def logits(self, x: Features | Sequence[Features] | Mapping[str, Features]) -> Tensor:
        """Features (batch, steps, dim), of each cache -> (batch, agents, n_heads, vocab_size).

        One tensor or array for a single cache; for several a list in their order, or a dict by
        their names.
        Raises HeliographError where a cache is missing or its features have another shape.
        """
        caches = self._lasting(x)
        logits = []
        for sender, view in zip(self.senders, self.views, strict=True):
            assert isinstance(sender, CompositionalSender)
            logits.append(
                sender.logits(caches[view.cache][:, view.window.start : view.window.stop])
            )
        return torch.stack(logits, dim=1)

    def forward(self, x: Features | Sequence[Features] | Mapping[str, Features]) -> Tensor:
        """Features as `logits` takes them -> integer tokens (batch, agents, n_heads)."""
        return self.logits(x).argmax(-1)

    def _lasting(self, x: Features | Sequence[Features] | Mapping[str, Features]) -> list[Tensor]:
        """The features of each cache, static ones repeated over time."""
        wanted = " and ".join(self.names)
        if isinstance(x, Mapping):
            missing = [name for name in self.names if name not in x]
            if missing or len(x) > len(self.names):
                raise HeliographError(f"needs the features of {wanted}, got {', '.join(x)}")
            given = [x[name] for name in self.names]
        else:
            given = [x] if isinstance(x, Tensor | np.ndarray) else list(x)
            if len(given) != len(self.names):
                raise HeliographError(
                    f"needs the features of {wanted}: {len(self.names)} tensors, got {len(given)}"
                )
        caches = [_tensor(features, self) for features in given]
        for number, (features, name) in enumerate(zip(caches, self.names, strict=True)):
            expected = (self.steps[number], self.dims.get(number, features.shape[-1]))
            if tuple(features.shape[1:]) != expected:
                raise HeliographError(
                    f"the features of {name} must be (clips, {expected[0]}, {expected[1]}), "
                    f"got {tuple(features.shape)}"
                )
        return [
            features.expand(-1, repeated_steps(self.steps, number), -1)
            for number, features in enumerate(caches)
        ]


Sender = CompositionalSender | MultiAgentSender


class CompositionalReceiver(nn.Module):
    """Reads two messages and answers, per property, whether the first clip has more of it.

    `msg_dim` is agents * heads * vocab: the one-hot symbols of a message, laid end to end. Head
    names: `elast_head` and `friction_head` for the published pair of properties, `head` for a
    single property, `heads.<property>` otherwise.
    """

    def __init__(
        self, msg_dim: int, hidden_dim: int = 128, properties: Sequence[str] = PUBLISHED_PROPERTIES
    ) -> None:
        super().__init__()
        self.shared = nn.Sequential(
            nn.Linear(2 * msg_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, hidden_dim // 2),
            nn.ReLU(),
        )
        self.properties = tuple(properties)
        for name in head_names(self.properties):
            *parents, leaf = name.split(".")
            if parents and not hasattr(self, parents[0]):
                self.add_module(parents[0], nn.Module())
            self.get_submodule(".".join(parents)).add_module(leaf, nn.Linear(hidden_dim // 2, 1))

    def forward(self, message_a: Tensor, message_b: Tensor) -> Tensor:
        """Two (batch, msg_dim) -> logits (batch, properties); above 0: the first clip has more."""
        h = self.shared(torch.cat([message_a, message_b], dim=-1))
        heads = [self.get_submodule(name) for name in head_names(self.properties)]
        return torch.cat([head(h) for head in heads], dim=-1)


def head_names(properties: Sequence[str]) -> list[str]:
    """State-dict names of a receiver's heads, in the order of the properties.

    Raises HeliographError for a property that cannot be a name in a state dict.
    """
    if tuple(properties) == PUBLISHED_PROPERTIES:
        return ["elast_head", "friction_head"]
    if len(properties) == 1:
        return ["head"]
    for name in properties:
        if not name or "." in name or hasattr(nn.Module, name):
            raise HeliographError(
                f"the property {name!r} cannot name a receiver's head: rename the label"
            )
    return [f"heads.{name}" for name in properties]


def build_sender(
    *,
    input_dim: int | Sequence[int],
    steps: int | Sequence[int],
    agents: int,
    heads: int,
    vocab: int,
    hidden_dim: int = 128,
    logit_clamp: float = 0.0,
    scores: int = 0,
    caches: Sequence[int] = (),
    names: Sequence[str] = (),
) -> Sender:
    """Return one agent over all the steps, or several over their views, with new weights.

    Args:
        input_dim: dimension of the features of the cache, or of each where there are several.
        steps: time steps of the cache, or of each.
        agents: how many.
        heads: symbols of each agent.
        vocab: symbols to choose from.
        hidden_dim: width of the encoders.
        logit_clamp: bound of a head's outputs; 0: none.
        scores: of ridge encoders; 0: the paper's encoders.
        caches: the number of the cache that each agent sees; none: all see the first.
        names: of the caches, for messages to people.
    """
    dims = [input_dim] if isinstance(input_dim, int) else list(map(int, input_dim))
    lengths = [steps] if isinstance(steps, int) else list(map(int, steps))
    if sender_class(agents, len(lengths)) is CompositionalSender:
        return CompositionalSender(
            hidden_dim, dims[0], vocab, heads, lengths[0], logit_clamp, scores
        )
    return MultiAgentSender(
        input_dim=dims,
        steps=lengths,
        caches=list(caches) or [0] * agents,
        vocab_size=vocab,
        n_heads=heads,
        hidden_dim=hidden_dim,
        logit_clamp=logit_clamp,
        scores=scores,
        names=list(names),
    )


def sender_class(agents: int, caches: int) -> type[CompositionalSender] | type[MultiAgentSender]:
    """Return what a sender of so many agents over so many caches is."""
    return CompositionalSender if agents == caches == 1 else MultiAgentSender


def sender_that_wrote(
    stored: Mapping[str, Any],
) -> type[CompositionalSender] | type[MultiAgentSender] | None:
    """Return the class whose `save_pretrained` wrote a `config.json`; None: something else did.

    >>> sender_that_wrote({"n_heads": 12, "model_type": "distilbert"})
    """
    kind = MultiAgentSender if "caches" in stored else CompositionalSender
    known = inspect.signature(kind.__init__).parameters
    return kind if "n_heads" in stored and set(stored) <= set(known) else None


def sender_sizes(
    config: TrainConfig, *, steps: Sequence[int], dims: Sequence[int], names: Sequence[str]
) -> dict[str, Any]:
    """Return the arguments of `build_sender` for a configuration and the shapes of its caches."""
    return {
        "input_dim": dims,
        "steps": steps,
        "agents": config.agents,
        "heads": config.heads,
        "vocab": config.vocab,
        "hidden_dim": config.hidden_dim,
        "logit_clamp": config.logit_clamp,
        "scores": len(config.properties) if config.encoder == RIDGE else 0,
        "caches": config.agent_caches,
        "names": names,
    }


def checkpoint_key(part: str, heads: int, vocab: int) -> str:
    """The published checkpoints' key of a part.

    >>> checkpoint_key("sender", 2, 8)
    'sender_2x8'
    """
    return f"{part}_{heads}x{vocab}"
