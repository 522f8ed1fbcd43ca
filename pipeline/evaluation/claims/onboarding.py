"""A new sender joins frozen receivers: it learns their code, and nobody learns its own.

A newcomer sees the clips through another cache (another backbone, or another output of the same)
and takes the place of one agent. It alone learns, as in phase 104 of the paper: Adam, pairs of
training clips, symbols by Gumbel-softmax at temperature 1; gradients are not clipped. The other
agents send what they sent, and each seed keeps its receiver. Next to its curve over steps stand

- the agent that it replaces (`before`), and silence in its place (`silent`);
- the newcomer before its first step (untrained);
- a newcomer that learns from labels of other objects (`permuted`): what learning gains without
  meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.errors import HeliographError, InvalidValueError
from data.wording import counted
from pipeline.agents import (
    AgentFactory,
    AgentWindows,
    Noise,
    Stack,
    agent_windows,
    sender_logits,
)
from pipeline.agents import fresh_senders as new_senders
from pipeline.config import CONVOLUTION
from pipeline.dataset import Examples, load_finite_cache, match, principal_axes, project
from pipeline.evaluation.adam import Adam
from pipeline.evaluation.claims.retest import Retest, RetestInputs, Table, cell, share_text
from pipeline.evaluation.context import CPU, MessageContext, one_hot_tokens, one_thread
from pipeline.evaluation.interventions import MAX_CLIPS
from pipeline.evaluation.pair_scores import Scores
from pipeline.game import ClipTable, Rounds

Numbers = NDArray[np.int64]
Progress = Callable[[int, int, str], None]

STEPS = 500
SHOWN = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
"""The steps after which the newcomer is scored; the last one, too."""
PAPER = 50
"""The step at which the paper's script looks first."""
TEMPERATURE = 1.0
LEARNING_RATE = 1e-3
"""The published senders'."""
AXES, SHRINKAGE = 64, 1.0
"""A newcomer reads its features on so many axes, whitened as softly as the preset `default` does;
scales of a run's own are those of other features."""
ENOUGH = 0.9
"""Of the accuracy before: what the paper asks of a newcomer."""


def onboard(
    context: MessageContext,
    features: NDArray[Any],
    *,
    agent: int,
    steps: int = STEPS,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """Let a new sender take the place of an agent, in every seed of a run.

    Args:
        context: Messages and receivers of a run.
        features: What the newcomer sees of the same clips, (N, T, D). It has the part of the steps
            that the agent has which it replaces.
        agent: The one that leaves, from 0.
        steps: Of training, a batch each.
        seed: Of the random numbers.
        progress: Called with steps done, all steps, and what is being done.

    Returns:
        The number of the `agent`, from 1; accuracies `before` and `silent`; the `curve`, for each
        of some steps that of the newcomer (`accuracy`), what it is `above_silent` and above the
        agent `before` it, and that of the `permuted` one; and `enough`, for each seed the first of
        these steps at which `ENOUGH` of the accuracy before is reached, None where it never is,
        whether silence alone reaches it, and the permuted newcomer's first step.
    """
    properties, size = context.config.properties, len(context.seeds)
    newcomers = _Newcomers.of(context, features, agent, seed, steps)
    mine = np.array([owner == agent for owner, _ in context.positions])
    nothing = np.where(mine, context.config.vocab, context.tokens)
    before, silent = (_score(context, tokens) for tokens in (context.tokens, nothing))
    shown = sorted({step for step in SHOWN if step < steps} | {steps})
    curve, scores = [], []
    for step in range(steps + 1):
        if step:
            newcomers.learn()
        progress(step, steps, "the newcomer learns")
        if step not in shown:
            continue
        said = newcomers.messages()  # (2 S, N, positions)
        joined, permuted = (_score(context, part) for part in (said[:size], said[size:]))
        scores.append((step, joined, permuted))
        curve.append(
            {
                "step": step,
                "accuracy": joined.by_property(properties),
                "above_silent": (joined - silent).by_property(properties),
                "above_before": (joined - before).by_property(properties),
                "permuted": permuted.by_property(properties),
            }
        )
    asked = ENOUGH * before.per_seed[:, -1]
    return {
        "agent": agent + 1,
        "agents": context.config.agents,
        "seeds": size,
        "before": before.by_property(properties),
        "silent": silent.by_property(properties),
        "curve": curve,
        "enough": {
            "share": ENOUGH,
            "silent": (silent.per_seed[:, -1] >= asked).tolist(),
            "newcomer": _first(asked, [(step, own) for step, own, _ in scores]),
            "permuted": _first(asked, [(step, own) for step, _, own in scores]),
        },
    }


@dataclass
class _Newcomers:
    """The newcomer of each of S seeds, then the one of each that learns from other labels.

    Attributes:
        context: Of the run.
        windows: What each sees of every clip.
        frozen: What receivers read of the other agents, (2 S, N, positions, vocab); zeros where the
            newcomer's symbols go.
        mine: Which positions are the newcomer's.
        tables: What is asked about the clips in each seed, 2 S.
        stack: Weights.
        adam: Their optimiser.
        generators: Draw the pairs of each.
        noise: The noise of each step, of which the symbols of each are drawn.
    """

    context: MessageContext
    windows: AgentWindows
    frozen: Tensor
    mine: NDArray[np.bool_]
    tables: list[ClipTable]
    stack: Stack
    adam: Adam
    generators: list[np.random.Generator]
    noise: Iterator[Tensor]

    @classmethod
    def of(
        cls, context: MessageContext, features: NDArray[Any], agent: int, seed: int, steps: int
    ) -> _Newcomers:
        """Build them for so many steps; the permuted one of a seed begins as the other does."""
        config = context.config
        own = [split.train for split in context.splits]
        seen = features[:, _steps_of(context, agent, features.shape[1])]
        axes = [principal_axes(seen, AXES, SHRINKAGE, clips=clips) for clips in own]
        windows = AgentWindows.of(torch.from_numpy(project(seen, axes)), 1).repeated(2)
        alone = config.replace(agents=1, sees=(), encoder=CONVOLUTION)
        factory = AgentFactory(alone, (seen.shape[1],), (axes[0].shape[1],))
        draws = [1000 * seed + 5000 + of_seed for of_seed in context.seeds]
        stack = new_senders(factory, factory.dims, windows.groups, draws * 2, CPU)
        described = context.game.sides * config.batch
        heads = (described, config.heads, context.factory.channel.noise_size)
        noise = Noise(draws * 2, "newcomer", heads, CPU)
        mine = np.array([owner == agent for owner, _ in context.positions])
        silent = np.where(mine, config.vocab, np.concatenate([context.tokens] * 2))
        labels = Examples((), context.labels, context.objects)
        permuted = [labels.permuted(1 + of_seed).labels for of_seed in context.seeds]
        tables = [context.table] * len(own)
        tables += [ClipTable(each, context.table.objects) for each in permuted]
        return cls(
            context=context,
            windows=windows,
            frozen=one_hot_tokens(silent, config.vocab).unflatten(-1, (-1, config.vocab)),
            mine=mine,
            tables=tables,
            stack=stack,
            adam=Adam(stack.values(), lr=LEARNING_RATE),
            generators=context.generators(seed) * 2,
            noise=noise.steps(range(1, steps + 1), 1),
        )

    def learn(self) -> None:
        """Take one step with a batch of pairs for each."""
        context, config = self.context, self.context.config
        rounds = self._draw().tensors()
        logits = self._logits(rounds.described)
        said = context.factory.channel.send(logits, next(self.noise), TEMPERATURE, hard=True)
        rows = torch.arange(len(self.tables))[:, None]
        messages = self.frozen[rows, rounds.described].clone()  # (2 S, rows, positions, vocab)
        messages[:, :, torch.from_numpy(self.mine)] = said
        receivers = {
            name: value.detach().repeat(2, *[1] * (value.ndim - 1))
            for name, value in context.receivers.items()
        }
        predicted = context.game.predict(receivers, messages.flatten(2), rounds, None)
        loss = context.game.round_losses(predicted, rounds).sum()
        (loss / config.batch).backward()
        self.adam.step()

    @torch.no_grad()
    def messages(self) -> Numbers:
        """Return what receivers read of every clip, int64 (2 S, N, positions)."""
        context = self.context
        tokens = np.concatenate([context.tokens] * 2)
        every = torch.arange(tokens.shape[1]).expand(len(tokens), -1)
        tokens[:, :, self.mine] = self._logits(every).argmax(-1).numpy()
        return tokens

    def _logits(self, clips: Tensor) -> Tensor:
        """Clips (2 S, rows) -> (2 S, rows, heads, vocab)."""
        config = self.context.config
        inputs = self.windows.gather(clips)
        return sender_logits(
            self.stack, inputs, config.heads, self.windows.groups, config.logit_clamp
        )[:, 0]

    def _draw(self) -> Rounds[NDArray[Any]]:
        context = self.context
        trained = [split.train for split in context.splits] * 2
        drawn = [
            context.game.sample([rng], [clips], context.config.batch, table)
            for rng, clips, table in zip(self.generators, trained, self.tables, strict=True)
        ]
        return Rounds(*map(np.concatenate, zip(*(each.arrays for each in drawn), strict=True)))


def _steps_of(context: MessageContext, agent: int, steps: int) -> slice:
    """Return the part of `steps` that a newcomer has in the place of an agent."""
    caches = context.config.agent_caches
    sharing = [other for other, cache in enumerate(caches) if cache == caches[agent]]
    window = agent_windows(steps, len(sharing))[sharing.index(agent)]
    return slice(window.start, window.stop)


def _score(context: MessageContext, tokens: Numbers) -> Scores:
    return context.score_answers(
        [
            context.game.answer(
                context.receiver(number),
                one_hot_tokens(tokens[number, clips], context.config.vocab),
                clips,
                None,
            )
            for number, clips in enumerate(context.tests)
        ]
    )


def _first(asked: NDArray[np.float64], scores: Sequence[tuple[int, Scores]]) -> list[int | None]:
    """Return for each seed the first step whose accuracy is what is asked, (S,)."""
    return [
        next((step for step, score in scores if score.per_seed[number, -1] >= least), None)
        for number, least in enumerate(asked)
    ]


def most_needed(context: MessageContext) -> int:
    """Return the agent, from 0, whose silence costs most on training clips, over all seeds.

    Where an agent is not needed, silence is as good as any newcomer in its place.
    """
    owners = np.array([owner for owner, _ in context.positions])
    left = np.zeros(context.config.agents)
    for number, (split, rng) in enumerate(zip(context.splits, context.generators(), strict=True)):
        some = rng.permutation(split.train)[:MAX_CLIPS]
        for agent in range(len(left)):
            said = np.where(owners == agent, context.config.vocab, context.tokens[number, some])
            vectors = one_hot_tokens(said, context.config.vocab)
            answers = context.game.answer(context.receiver(number), vectors, some, None)
            left[agent] += context.game.accuracy(answers, context.table, some).together
    return int(left.argmin())


# As a re-test


def _compute(inputs: RetestInputs) -> dict[str, Any]:
    """Onboard a newcomer on the only other cache that is given."""
    options = dict(inputs.options)
    agents, clips = inputs.run.config.agents, inputs.clips
    agent = options.pop("agent", None)  # from 1
    if agent is not None and not 1 <= agent <= agents:
        raise InvalidValueError(
            f"no agent {agent}: {inputs.run.folder} has {counted(agents, 'agent')}, counted from 1"
        )
    ((name, path),) = inputs.others.items()
    other = load_finite_cache(path)
    rows = match(clips, other, "the run's cache", str(path))
    lacking = [clips.clip_id[row] for row in np.flatnonzero(rows < 0).tolist()]
    if lacking:
        raise HeliographError(
            f"{path} lacks {len(lacking)} of the run's {len(clips)} clips: {lacking[0]} is one; "
            "extract it from the same clips"
        )
    if not all(len(split.train) > 1 for split in inputs.messages.splits):
        raise HeliographError(
            f"{inputs.run.folder} knows of no training clips, from which a newcomer would learn"
        )
    with one_thread():
        place = most_needed(inputs.messages) if agent is None else agent - 1
        entry = onboard(inputs.messages, other.features[rows], agent=place, **options)
    return {"sees": name} | entry


def _sentence(entry: dict[str, Any]) -> str:
    curve, enough = {row["step"]: row for row in entry["curve"]}, entry["enough"]
    last = max(curve)
    early = PAPER if PAPER in curve else last
    later = "" if early == last else f" and {share_text(curve[last]['accuracy'])} after {last}"
    of = f"of {counted(entry['seeds'], 'seed')}"
    reached = sum(enough["silent"])
    learned, permuted = (
        sum(step is not None and step <= early for step in enough[name])
        for name in ("newcomer", "permuted")
    )
    return (
        f"{share_text(entry['before'])} before, {share_text(entry['silent'])} with silence in the "
        f"place of agent {entry['agent']} of {entry['agents']}; the newcomer (sees "
        f"{entry['sees']}) has {share_text(curve[0]['accuracy'])} untrained, "
        f"{share_text(curve[early]['accuracy'])} after {counted(early, 'step')}{later}, with "
        f"permuted labels {share_text(curve[last]['permuted'])}. {100 * enough['share']:.0f} % of "
        f"the accuracy before: silence has it in {reached} {of}, the newcomer within "
        f"{counted(early, 'step')} in {learned}, with permuted labels in {permuted}"
    )


def _table(entry: dict[str, Any]) -> Table:
    columns = ["steps", "newcomer, %", "above silence", "above the agent before", "permuted, %"]
    names = ("accuracy", "above_silent", "above_before", "permuted")
    rows = [["agent before", cell(entry["before"]), "-", "-", "-"]]
    rows.append(["silence", cell(entry["silent"]), "-", "-", "-"])
    rows += [[str(row["step"]), *(cell(row[name]) for name in names)] for row in entry["curve"]]
    return columns, rows


ONBOARDING = Retest(
    name="onboarding",
    compute=_compute,
    sentence=_sentence,
    table=_table,
    options={"agent": 1, "steps": 1, "seed": 0},
    has_newcomer=True,
)
