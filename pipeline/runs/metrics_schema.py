"""The type of a run's `metrics.json`: every key, what it means, and the values that it can have.

`train` writes the first part, `evaluate` the second; writers, tables, the report and experiments
share this type, and `docs/metrics_json.md` is generated from it:

    python -m pipeline.runs.metrics_docs > docs/metrics_json.md

A key that is absent was not computed; null stands for a number that could not be computed. Keys of
files written by an older version are read by their older names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

import numpy as np
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)
from pydantic.fields import FieldInfo

from data.notebooks import data_frame, html_table
from data.wording import counted
from pipeline.runs.metrics_versions import VERSION, of_this_version

SHOWN = ("accuracy_", "properties.", "baselines.")  # numbers that a notebook shows
SCORES = ("accuracy_test", "accuracy_last_epoch", "accuracy_published_protocol")


@dataclass(frozen=True)
class Range:
    """The values that a number can have, both ends included; rounding beyond them is allowed."""

    low: float
    high: float

    def __call__(self, value: float | None) -> float | None:
        """Return the value; raises ValueError for one that is outside."""
        if value is not None and not self.low - 1e-9 <= value <= self.high + 1e-9:
            raise ValueError(f"{value} is not in {self}")
        return value

    def __str__(self) -> str:
        return f"≥ {self.low:g}" if math.isinf(self.high) else f"{self.low:g} to {self.high:g}"


def null_for_nan(value: Any) -> Any:
    """Return None for NaN, which is not JSON."""
    return None if isinstance(value, float) and math.isnan(value) else value


NULL_FOR_NAN = BeforeValidator(null_for_nan)
Number = Annotated[float | None, NULL_FOR_NAN]
Fraction = Annotated[float | None, NULL_FOR_NAN, AfterValidator(Range(0.0, 1.0))]
Signed = Annotated[float | None, NULL_FOR_NAN, AfterValidator(Range(-1.0, 1.0))]
Positive = Annotated[float | None, NULL_FOR_NAN, AfterValidator(Range(0.0, math.inf))]
Count = Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """An object of `metrics.json`; a key that it does not know is refused when it is written."""

    model_config = ConfigDict(extra="forbid", defer_build=True, allow_inf_nan=True)

    def to_json(self) -> dict[str, Any]:
        """Return a dict of JSON types, without the keys that were not computed."""
        return self.model_dump(exclude_unset=True)


# Numbers over seeds


class Spread(Record):
    """A number for each seed, with their mean and standard deviation."""

    mean: Number = Field(description="over the seeds that have a value; null where none has")
    std: Positive = Field(description="standard deviation over seeds with S - 1; 0 for one seed")
    per_seed: list[Number] = Field(description="in the order of `seeds`; null where not known")

    @classmethod
    def numbers(cls, values: Sequence[float]) -> dict[str, Any]:
        """Return `mean`, `std` and `per_seed`; a seed without a value (NaN) counts for neither.

        >>> Spread.numbers([0.5, 1.0, math.nan])["mean"]
        0.75
        """
        known = [value for value in values if not math.isnan(value)]
        std = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
        mean = float(np.mean(known)) if known else math.nan
        return {"mean": mean, "std": std, "per_seed": list(values)}


class AccuracySpread(Spread):
    """An accuracy, a fraction of 1, over seeds."""

    mean: Fraction = Field(description="over the seeds that have a value; null where none has")
    per_seed: list[Fraction] = Field(description="in the order of `seeds`; null where not known")


class NullAccuracy(AccuracySpread):
    """The accuracy of seeds that learned from permuted labels, of all at once and of each."""

    properties: dict[str, AccuracySpread] = Field(default_factory=dict, description="by property")


class PublishedAccuracy(AccuracySpread):
    """The accuracy of the paper's protocol, whose checkpoint the test clips chose."""

    selected_on_test: bool = Field(default=True, description="always true: a reminder")


class Estimate(AccuracySpread):
    """A fraction over seeds with its interval."""

    interval: tuple[Fraction, Fraction] = Field(
        description="95 % interval of the mean, for other objects and other seeds"
    )


class PropertyEstimate(Estimate):
    """The accuracy of one property."""

    auc: Estimate | None = Field(
        default=None,
        description="area under the ROC curve: is a clip above the training clips' median scored "
        "above one below it?",
    )
    spearman: Spread | None = Field(
        default=None, description="rank correlation of the clips' scores and the property"
    )


class AccuracyEstimate(Estimate):
    """The accuracy of all properties at once, and of each."""

    properties: dict[str, PropertyEstimate] = Field(default_factory=dict, description="by property")


class DifferenceEstimate(Spread):
    """A difference of two fractions over seeds, paired, with its interval."""

    mean: Signed = Field(description="over the seeds that have a value; null where none has")
    per_seed: list[Signed] = Field(description="in the order of `seeds`; null where not known")
    interval: tuple[Signed, Signed] = Field(
        description="95 % interval of the mean, for other objects and other seeds"
    )


class AccuracyDifference(DifferenceEstimate):
    """A difference of two accuracies, of all properties at once and of each."""

    properties: dict[str, DifferenceEstimate] = Field(
        default_factory=dict, description="by property"
    )


class TestedDifferenceEstimate(DifferenceEstimate):
    """A difference with its p-value."""

    p_value: Fraction = Field(
        description="against random assignments of properties to positions; one-sided"
    )


class ProbeEstimate(Estimate):
    """The accuracy of a probe's predictions on pairs of test clips."""

    spearman: Spread = Field(description="rank correlation of predictions and label")


class OutcomeEstimate(Estimate):
    """The accuracy of predicted outcomes on pairs of test clips."""

    r2: Spread = Field(description="1 - squared errors over squared distances from the mean")


class Ratio(Record):
    """A ratio of means with its interval."""

    value: Number = Field(description="the ratio of the means")
    interval: tuple[Number, Number] = Field(
        description="its 95 % interval, for other objects and other seeds"
    )


# What `train` writes


class PropertyAccuracies(Record):
    """The accuracies of one property."""

    accuracy_test: AccuracySpread | None = Field(description="as `accuracy_test`")
    accuracy_last_epoch: AccuracySpread = Field(description="as `accuracy_last_epoch`")
    accuracy_published_protocol: AccuracySpread = Field(
        description="as `accuracy_published_protocol`"
    )


class Leaks(Record):
    """Clips of different objects with one content, which the run was told to accept."""

    same_content: Count = Field(
        description="clips with the bytes of a clip of another object, over a common stretch"
    )
    near_duplicates: Count = Field(
        description="pairs of clips of different objects that look the same and are in different "
        "parts of a seed's split"
    )
    examples: list[str] = Field(description="a few of them, with their ids and objects")

    @property
    def mark(self) -> str:
        """What is shown next to the accuracies."""
        counts = [
            f"{count} {one if count == 1 else many}"
            for count, one, many in (
                (
                    self.same_content,
                    "clip has the content of a clip of another object",
                    "clips have the content of a clip of another object",
                ),
                (
                    self.near_duplicates,
                    "pair of clips of different objects looks the same",
                    "pairs of clips of different objects look the same",
                ),
            )
            if count
        ]
        return f"with leaks allowed: {', '.join(counts)}"


# What `evaluate` adds


class WithoutNearDuplicates(Record):
    """Accuracy without the test clips that are near-duplicates of training clips."""

    left_out: list[Count] = Field(description="of each seed, how many test clips are left out")
    kept_receiver: AccuracyEstimate | None = Field(
        description="as `kept_receiver`, on the other test clips; null where none can be compared"
    )


class Generalisation(Record):
    """Accuracy on clips that the agents were trained on, and what of it is lost on others."""

    training: AccuracyEstimate = Field(
        description="as `kept_receiver`, on training clips; of more than 400 of a seed, 400 drawn"
    )
    gap: AccuracyDifference = Field(description="`training` minus `kept_receiver`")


class Gains(Record):
    """What time adds to a baseline."""

    dynamics: AccuracyDifference | None = Field(
        default=None, description="ridge on all time steps minus ridge on the middle one"
    )
    order: AccuracyDifference | None = Field(
        default=None, description="ridge on all time steps minus ridge on the same steps shuffled"
    )


class NullSeedValues(Spread):
    """The values of a metric for seeds that learned from labels permuted by object."""

    p_value: Fraction = Field(
        description="of the run's mean, against these; corrected over metrics by the largest in "
        "each null seed"
    )


class OwnPosition(Spread):
    """How far a property has a position of its own, in nats, on the clips of its metrics."""

    p_value: Fraction = Field(
        description="of the mean, against null seeds; corrected over properties; null without"
    )


class SeedShare(Record):
    """A share of the seeds of a run."""

    value: Fraction = Field(description="the share")
    interval: tuple[Fraction, Fraction] = Field(
        description="95 % interval for other seeds on the same clips"
    )
    of: Count = Field(description="how many seeds there are")


class StructuralMetric(Spread):
    """A metric of each seed's messages with its chance level, on clips not trained on."""

    clips: str | None = Field(
        default=None,
        description="`held out`: each seed's clips set aside for structure, else its test clips; "
        "`training`: its training clips, where a grid has no others that can show structure; "
        "absent in older files: all clips",
    )
    on_training_clips: Spread | None = Field(
        default=None, description="the same on each seed's training clips, which it may remember"
    )
    null_seeds: NullSeedValues | None = Field(
        default=None, description="the same of null seeds (train --null)"
    )

    interval: tuple[Number, Number] = Field(
        description="95 % bootstrap interval of the mean over objects; how often that of each "
        "metric holds the truth, docs/metrics.md says"
    )
    null_mean: Number = Field(description="when properties are permuted across objects")
    null_low: Number = Field(description="2.5 % of the null is below this")
    null_high: Number = Field(description="2.5 % of the null is above this")
    p_value: Fraction = Field(
        description="of the mean, against that null; one-sided, to the side that is better"
    )
    p_per_seed: list[Fraction] = Field(description="of each seed, against that null")
    codebook_mean: Number = Field(
        description="when whole messages are permuted: same content, arbitrary code"
    )
    p_codebook: Fraction = Field(description="of the mean, against that null")
    verdict: str | None = Field(
        default=None,
        description="of a structural metric: compositional; informative, not compositional; no "
        "better than chance; undecided; not tested; or undefined",
    )
    compositional_seeds: SeedShare | None = Field(
        default=None,
        description="which seeds get the verdict compositional each by itself, a test at 5 %; with "
        "39 null seeds at least",
    )


class BinnedMetric(Record):
    """A structural metric with the properties in another number of bins."""

    mean: Number = Field(description="over seeds")
    null_mean: Number = Field(description="when properties are permuted across objects")
    p_value: Fraction = Field(
        description="of the mean, against that null; one-sided, to the side that is better"
    )


class Selectivity(Record):
    """Whether a position matters to the property that it carries and to no other."""

    carried_property: DifferenceEstimate = Field(
        description="accuracy drop of the property that a position carries",
        validation_alias=AliasChoices("carried_property", "targeted"),
    )
    other_properties: DifferenceEstimate = Field(
        description="accuracy drop of the other properties",
        validation_alias=AliasChoices("other_properties", "elsewhere"),
    )
    difference: TestedDifferenceEstimate = Field(description="the first minus the second")


class Intervention(Record):
    """The accuracy drop (intact minus changed) when one position of the messages is changed."""

    drop: list[list[Signed]] = Field(description="positions x properties, mean over seeds")
    interval: list[list[tuple[Signed, Signed]]] = Field(
        description="positions x properties, both ends of the 95 % interval"
    )
    per_seed: list[list[list[Signed]]] = Field(description="seeds x positions x properties")
    drop_together: list[Signed] = Field(description="of each position, for all properties at once")
    interval_together: list[tuple[Signed, Signed]] = Field(
        description="of each position, both ends of the 95 % interval"
    )
    selectivity: Selectivity | None = Field(
        description="null for one property",
        validation_alias=AliasChoices("selectivity", "targeted"),
    )
    p_value: list[list[Fraction]] | None = Field(
        default=None,
        description="positions x properties, of `resample` alone: the accuracy intact against that "
        "with the position's symbols permuted across clips; one-sided",
    )


class SymbolEdits(Record):
    """One symbol of one message changed to each other symbol."""

    flip_rate: list[list[Fraction]] = Field(
        description="positions x properties: how often the receiver's answer changes"
    )
    per_seed: list[list[list[Fraction]]] = Field(description="seeds x positions x properties")


class Interventions(Record):
    """What the symbols of each position cause; on at most 80 test clips of each seed."""

    positions: list[tuple[int, int]] = Field(
        description="of each the agent and the position in its message, both from 1"
    )
    accuracy_intact: AccuracyEstimate = Field(description="before any change")
    carried_property: list[list[str]] = Field(
        description="of each seed and position, the property with which it shares most information "
        "on training clips",
        validation_alias=AliasChoices("carried_property", "carries"),
    )
    zero: Intervention = Field(description="the receiver reads zeros there")
    resample: Intervention = Field(description="the symbols there are permuted across clips")
    scramble: Intervention = Field(description="the symbols there are uniformly random")
    swap: Intervention = Field(description="the two clips of a pair exchange their symbols there")
    edits: SymbolEdits = Field(description="one symbol of one message changed")


class Noise(Record):
    """Accuracy when symbols are replaced at random."""

    probability: list[Fraction] = Field(
        description="that a symbol is replaced by a uniformly random one"
    )
    accuracy: list[AccuracyEstimate] = Field(description="for each probability")


class FreshReceivers(Record):
    """Receivers trained anew on the frozen messages of the training clips."""

    accuracy: AccuracyEstimate = Field(description="on test clips")
    permuted: AccuracyEstimate = Field(
        description="the same, trained on messages permuted across training clips",
        validation_alias=AliasChoices("permuted", "dealt"),
    )
    above_permuted: AccuracyDifference = Field(
        description="`accuracy` minus `permuted`",
        validation_alias=AliasChoices("above_permuted", "above_dealt"),
    )
    trained_minus_fresh: AccuracyDifference = Field(
        description="accuracy of the receivers that each seed kept, minus `accuracy`",
        validation_alias=AliasChoices("trained_minus_fresh", "loss_of_newcomers"),
    )


class ProtocolAgreement(Record):
    """How alike two protocols are, up to a renaming of symbols."""

    adjusted_mutual_information: Number = Field(description="of whole messages; 0 by chance")
    matched: Fraction = Field(
        description="the share of clips on which matched positions agree after the best renaming "
        "of symbols"
    )
    matched_by_chance: Fraction = Field(description="the same with clips permuted")


class AgentAgreement(ProtocolAgreement):
    """How alike the protocols of two agents are, mean over seeds."""

    agents: tuple[int, int] = Field(description="the two agents, from 1")


class Agreement(Record):
    """How alike agents, and seeds, name the same clips."""

    agents: list[AgentAgreement] = Field(description="of each two agents")
    seeds: ProtocolAgreement | None = Field(
        description="mean over at most 45 pairs of seeds; null for one seed"
    )


class Compression(Record):
    """Bits of a message against bits of the features that it describes."""

    bits_capacity: Positive = Field(description="positions x log2(vocabulary)")
    bits_used: Spread = Field(description="entropy of whole messages over the clips")
    bits_symbols: Spread = Field(description="the positions' entropies, summed")
    bits_features: Count = Field(description="of the features of one clip, as they are stored")
    ratio: Positive = Field(description="bits_features over bits_capacity")


class ProbeResult(Record):
    """A probe trained on messages, and the same on raw features."""

    messages: ProbeEstimate = Field(description="from messages")
    features: ProbeEstimate = Field(description="from raw features")
    retained: Ratio | None = Field(
        description="what messages keep of the features' accuracy above one half; null where the "
        "features' interval reaches down to one half"
    )


class LabelProbes(Record):
    """A label of the cache, predicted for test clips."""

    trained_on: bool = Field(description="whether it is a property of the run")
    ridge: ProbeResult = Field(description="a linear probe")
    mlp: ProbeResult = Field(description="a probe with one hidden layer")


class AboveMedian(Record):
    """Whether the outcome is above the median of the training clips."""

    messages: Estimate = Field(description="share of right answers, from messages")
    features: Estimate = Field(description="from raw features")
    action: Estimate | None = Field(default=None, description="from the action alone")
    above_action: DifferenceEstimate | None = Field(
        default=None, description="what messages add to the action"
    )
    retained: Ratio | None = Field(description="as `probes.*.ridge.retained`")
    ratio: Number = Field(
        description="accuracy from messages over accuracy from features, the paper's share retained"
    )


class Monotony(Record):
    """Of which share of test clips the predicted outcome follows the action."""

    monotone: Estimate = Field(description="from each value of the action to the next")
    but_once: Estimate = Field(description="with one step the other way, or level, at most")


class Counterfactual(Record):
    """What messages tell of actions that were not those of their clips."""

    levels: list[float] = Field(description="the values of the action that are asked about")
    messages: Monotony = Field(
        description="from the message and the action, quadratic in the action"
    )
    action: Monotony = Field(description="from the action alone: no message is needed")
    other_clip: Estimate | None = Field(
        description="whether the outcome is above the median, for an action that training left "
        "out, by the message of another clip of the object, after another action; null where there "
        "is none"
    )


class Query(Record):
    """A question put to one part of each message: an agent, of one agent a position."""

    asked: list[int] = Field(description="the part of each seed, from 1; chosen on training clips")
    from_asked: Estimate = Field(description="which of two test clips has more, by that part")
    from_another: Estimate = Field(description="by the others, one by one, pooled")
    from_all: Estimate = Field(description="by the whole message")
    gap: DifferenceEstimate = Field(description="the first less the second")


class Outcome(Record):
    """An outcome after an action, predicted from messages (evaluate --outcome --action)."""

    outcome_label: str = Field(description="the label that is predicted")
    action_label: str = Field(description="the label that is the action")
    left_out: Count = Field(
        description="how many values or fifths of the action were left out in turn"
    )
    messages: OutcomeEstimate = Field(
        description="from message and action, for an action that training left out"
    )
    features: OutcomeEstimate = Field(description="the same from raw features and action")
    action: OutcomeEstimate = Field(description="the same from the action alone")
    retained: Ratio | None = Field(description="as `probes.*.ridge.retained`")
    above_median: AboveMedian = Field(description="without an action")
    above_median_left_out: AboveMedian = Field(
        description="with the action, for an action that training left out"
    )
    counterfactual: Counterfactual | None = Field(
        default=None, description="other actions than those of the clips; absent in older files"
    )
    queries: dict[str, Query] | None = Field(
        default=None,
        description="by property, and of the outcome for an action that training left out: what a "
        "part of the message tells; null for a message of one symbol",
    )


class MessageEstimate(Record):
    """What messages say of a property as a number, on the clips that each seed held out.

    Every object is judged by the errors on other objects.
    """

    objects: Count = Field(description="how many held-out objects there are")
    level: Fraction = Field(description="the chance that an interval ought to hold the true value")
    coverage: Fraction = Field(
        description="the share of clips whose true value is in its interval, objects weighing the "
        "same; null where too few objects were held out"
    )
    error: Positive = Field(description="mean absolute error, in the unit of the label")
    error_of_median: Positive = Field(
        description="that of the median of the training clips, whatever the message"
    )
    right: Fraction = Field(
        description="the share of clips that are in the third of training clips that is named, "
        "objects weighing the same"
    )
    calibration_error_softmax: Fraction = Field(
        description="expected calibration error (10 bins) of the mean softmax probability of a "
        "message's symbols, read as the chance that the third is right"
    )
    calibration_error: Fraction = Field(
        description="the same of the confidence that `heliograph message` gives"
    )


class Transfer(Record):
    """The agents on the clips of another cache, nothing retrained (evaluate --on)."""

    clips: Count = Field(description="labelled clips of the other cache that are compared")
    objects: Count = Field(description="how many objects they show")
    trained_on: Count | None = Field(
        default=None, description="how many of the clips some seed was trained on"
    )
    known_messages: Fraction = Field(
        description="the share of them whose message some training clip has too"
    )
    accuracy: AccuracyEstimate = Field(
        description="on all of them", validation_alias=AliasChoices("accuracy", "all")
    )
    new_objects: AccuracyEstimate | None = Field(
        description="on objects that a seed never trained on; null without"
    )
    pixels: AccuracyEstimate | None = Field(
        default=None,
        description="as `ridge`, of the baseline `pixels`; null where clips lack thumbnails",
    )
    differences: AccuracyEstimate | None = Field(
        default=None, description="the same of the baseline `differences`"
    )
    missing_baselines: dict[str, str] | None = Field(
        default=None, description="by baseline that is null, what it lacks"
    )
    ridge: AccuracyEstimate = Field(
        description="of the ridge baseline, fitted on the run's training clips"
    )


class GameScores(Record):
    """A game whose rounds are not about pairs of clips."""

    name: str = Field(description="as `--game` names it")
    chance: Fraction = Field(description="the accuracy of a guess")
    null_mean: Fraction | None = Field(
        default=None, description="accuracy when the messages are permuted across test clips"
    )
    null_low: Fraction | None = Field(default=None, description="2.5 % of the null is below this")
    null_high: Fraction | None = Field(default=None, description="2.5 % of the null is above this")
    p_value: Fraction | None = Field(
        default=None, description="of `kept_receiver`, against that null; one-sided"
    )
    position_drops: list[DifferenceEstimate] | None = Field(
        default=None,
        description="of each position, agent by agent: the accuracy drop when its symbols are "
        "permuted across test clips",
    )


class RunMetrics(Record):
    """The whole of `metrics.json`."""

    schema_version: int = Field(
        default=VERSION,
        description="2; files without it are of version 1, in which agents and positions are "
        "numbered from 0, also in the names `ridge_agent_N`",
    )
    seeds: list[int] = Field(
        default_factory=list, description="the seeds, in the order of every `per_seed`"
    )
    accuracy_test: AccuracySpread | None = Field(
        description="the checkpoint chosen on validation, on test clips; null without validation "
        "clips"
    )
    accuracy_last_epoch: AccuracySpread = Field(description="the last epoch, nothing chosen")
    accuracy_published_protocol: PublishedAccuracy | None = Field(
        description="the paper's protocol, chosen on the test clips; null in a game that the paper "
        "does not have"
    )
    accuracy_validation: AccuracySpread | None = Field(
        default=None,
        description="the chosen checkpoint on the clips that chose it; with refit, that of the "
        "training before they were added to the training clips",
    )
    properties: dict[str, PropertyAccuracies] = Field(
        description="by property; the accuracies above are of all of them at once. Empty in a game "
        "that asks about no property"
    )
    game: GameScores | None = Field(
        default=None,
        description="of a game other than the comparison game: its chance, and what `evaluate` "
        "adds about it",
    )
    chosen_seed: int | None = Field(
        default=None, description="the seed whose model is at the top of the run folder"
    )
    chosen_epoch: list[int] | None = Field(
        default=None, description="of each seed, the epoch of the checkpoint that is kept"
    )
    skipped_batches: list[int] | None = Field(
        default=None, description="of each seed, batches whose loss was not finite"
    )
    folds: int | None = Field(
        default=None,
        description="the number of folds of a k-fold split; null for another split",
    )
    notes: list[str] = Field(
        default_factory=list, description="sentences to read together with the accuracies"
    )
    leaks: Leaks | None = Field(
        default=None,
        description="what `--allow-leaks` let pass; absent where there was nothing",
    )
    imported_from: str | None = Field(
        default=None,
        description="the checkpoint that import-checkpoint read; absent for what was trained here",
    )
    pulled_from: str | None = Field(
        default=None,
        description="of a run that `hub pull` fetched, its address on the Hugging Face Hub, with "
        "the commit: `hf://user/name@COMMIT`",
    )
    control: ControlMetrics | None = Field(
        default=None,
        description="the one-head control (train --control): `folder`, `heads`, `vocab`, and the "
        "keys of a metrics.json of its own",
    )
    shuffled_labels: NullAccuracy | None = Field(
        default=None,
        description="accuracy of the seeds that learned from labels permuted by object "
        "(train --null), about these labels",
    )
    baselines: dict[str, AccuracyEstimate | None] | None = Field(
        default=None,
        description="accuracy on the same test clips without agents, by baseline; null where it "
        "has nothing to go by. `majority`: the likelier answer. Ridge regressions without a "
        "network: `pixels`, on the cache's thumbnails of all sampled frames; `differences`, on the "
        "absolute differences of successive ones; `first_frame`, on the first alone; with "
        "`evaluate --videos` also `optical_flow`, the mean flow (DIS of OpenCV) in 16 x 16 cells "
        "between successive sampled frames, and its size, and `shortcuts`, on duration, frame "
        "rate, width, height and bytes of the file. `volume`, `scenario`, `condition`: what is "
        "known of the recording. Ridge regressions on the features, or on their logarithms, of "
        "every step or of the mean over steps, whichever folds of training objects find best: "
        "`ridge`, of all steps or of the agents' windows; `ridge_static`, the middle time step "
        "alone; `ridge_shuffled_steps`; `ridge_agent_N`, the window of agent N, from 1; "
        "`ridge_NAME`, those of `--against`. What may be sent as the agents' messages: "
        "`quantised_ridge`, one regression on the agents' windows, of which each agent sends a "
        "level of its part for each property, together as many combinations as it has messages; "
        "`quantised_labels`, the true labels cut into the levels that all agents' messages tell: "
        "no predictor, but the most that they could carry. In a game about no property: "
        "`other_trial`, the features of another trial of the object in place of a message, "
        "`pixels`, `differences` and `first_frame` those of its frames, and `clusters`, a code "
        "without learning",
    )
    missing_baselines: dict[str, str] | None = Field(
        default=None,
        description="by baseline that is null for want of something, what it lacks",
    )
    gains: Gains | None = Field(default=None, description="what time adds to a baseline")
    compositionality: dict[str, StructuralMetric | None] | None = Field(
        default=None,
        description="by structural metric; null where it needs two properties",
    )
    own_positions: dict[str, OwnPosition] | None = Field(
        default=None,
        description="by property: of each position the information about it less that about the "
        "closest other property, of the positions the largest; null for one property",
    )
    bins: dict[str, dict[str, BinnedMetric] | None] | None = Field(
        default=None,
        description="by structural metric, then by number of bins of the properties (5 in "
        "`compositionality`); null where it needs two properties",
    )
    kept_receiver: AccuracyEstimate | None = Field(
        default=None,
        description="accuracy of the receiver that each seed kept, with auc and spearman (a clip's "
        "score: the share of the other clips that it exceeds by the answers)",
        validation_alias=AliasChoices("kept_receiver", "agents"),
    )
    generalisation: Generalisation | None = Field(
        default=None,
        description="the gap between trained and held-out clips; null where a seed has no training "
        "clips",
    )
    without_near_duplicates: WithoutNearDuplicates | None = Field(
        default=None,
        description="without the test clips of other objects that look like training clips; null "
        "where no seed has any",
    )
    interventions: Interventions | None = Field(
        default=None, description="what the symbols of each position cause"
    )
    silenced_agents: list[AccuracyDifference] | None = Field(
        default=None,
        description="of each agent, the accuracy drop when its part of the message is zeros",
        validation_alias=AliasChoices("silenced_agents", "silenced"),
    )
    noise: Noise | None = Field(
        default=None, description="accuracy when symbols are replaced at random"
    )
    fresh_receivers: FreshReceivers | None = Field(
        default=None,
        description="receivers trained anew on frozen messages",
        validation_alias=AliasChoices("fresh_receivers", "listeners"),
    )
    agreement: Agreement | None = Field(
        default=None, description="how alike agents, and seeds, name the same clips"
    )
    compression: Compression | None = Field(
        default=None,
        description="bits of messages and of features",
        validation_alias=AliasChoices("compression", AliasPath("worth", "compression")),
    )
    probes: dict[str, LabelProbes] | None = Field(
        default=None,
        description="by label of the cache, read off messages and off raw features; absent where "
        "too few clips have the label",
        validation_alias=AliasChoices("probes", AliasPath("worth", "probes")),
    )
    estimates: dict[str, MessageEstimate] | None = Field(
        default=None,
        description="by property, how far the estimates of `heliograph message` err, and whether "
        "their intervals and confidences hold; absent where no clip was held out",
    )
    outcome: Outcome | None = Field(
        default=None, description="an outcome predicted from messages and an action"
    )
    transfer: dict[str, Transfer] | None = Field(
        default=None, description="by path of the other cache (evaluate --on)"
    )
    controls: dict[str, AccuracyEstimate] | None = Field(
        default=None,
        description="accuracy of networks trained without a bottleneck (oracle) or with a "
        "continuous one (evaluate --controls); last state, nothing chosen",
    )

    unchecked: bool | None = Field(
        default=None,
        description="true where the run had no manifest.json, so that nothing showed that its "
        "files were as training wrote them; absent in others",
    )

    @classmethod
    def read(cls, stored: Any, *, properties: Sequence[str], seeds: int) -> RunMetrics:
        """Return the metrics of a file that was parsed; keys that are not known are left out.

        Args:
            stored: what the file holds.
            properties: those that the game of the run scores, which must be there.
            seeds: how many numbers each accuracy must have.

        Raises:
            ValueError: where a key is missing or holds what it cannot, with a phrase about it.
        """
        if not isinstance(stored, Mapping):
            raise ValueError("it is no object")
        if "properties" in stored and isinstance(stored["properties"], Mapping):
            missing = [name for name in properties if name not in stored["properties"]]
        else:
            missing = ["properties"]
        if missing:
            raise ValueError(f"it has no {missing[0]!r}")
        try:
            metrics = cls.model_validate(of_this_version(stored), extra="ignore")
        except ValidationError as error:
            raise ValueError(_phrase(error)) from error
        for entry in (metrics, *metrics.properties.values()):
            for name in SCORES:
                spread = getattr(entry, name)
                if spread is not None and len(spread.per_seed) != seeds:
                    raise ValueError(f"its {name} is no mean, std and per_seed of {seeds} seeds")
        return metrics

    def with_keys(self, keys: Mapping[str, Any]) -> RunMetrics:
        """Return these metrics with some keys replaced or added.

        Raises:
            ValidationError: for a key that is not in this type, or a value that it cannot have.
        """
        plain = {
            name: value.to_json() if isinstance(value, Record) else value
            for name, value in keys.items()
        }
        return type(self).model_validate(self.to_json() | plain)

    def _repr_html_(self) -> str:
        rows = [
            [key, own.mean, own.std, *interval]
            for key, own, interval in self._numbers_over_seeds()
            if key.startswith(SHOWN)
        ]
        caption = f"Metrics of {counted(len(self.seeds), 'seed')}"
        return html_table(caption, ["", "mean", "std", "low", "high"], rows, self.notes)

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` with a row for each number over seeds.

        Its columns are key (as `at` takes it), mean, std, and low and high of its interval, NaN
        where there is none.

        Raises:
            HeliographError: pandas is not installed.
        """
        rows = list(self._numbers_over_seeds())
        numbers = [[own.mean, own.std, *interval] for _, own, interval in rows]
        table = np.array(numbers, dtype=np.float64).reshape(len(rows), 4)
        columns = dict(zip(("mean", "std", "low", "high"), table.T, strict=True))
        return data_frame({"key": [key for key, *_ in rows], **columns})

    def _numbers_over_seeds(self) -> Iterator[tuple[str, Spread, tuple[Any, Any]]]:
        """Yield each number with its key and both ends of its interval, in the order of fields."""
        waiting: list[tuple[str, Any]] = [("", self)]
        while waiting:
            key, value = waiting.pop()
            if isinstance(value, Spread):
                yield key, value, getattr(value, "interval", None) or (None, None)
            if isinstance(value, Record):
                names = [
                    name for name in type(value).model_fields if name in value.model_fields_set
                ]
                value = {name: getattr(value, name) for name in names}
            if isinstance(value, Mapping):
                inner = [(f"{key}.{name}".lstrip("."), own) for name, own in value.items()]
                waiting += reversed(inner)

    def at(self, path: str) -> Any:
        """Return the value at a path, its parts joined by dots; None where there is none.

        Older names of keys are understood.
        """
        value: Any = self
        for part in path.removeprefix("worth.").split("."):
            if isinstance(value, Record):
                name = _name_of(type(value), part)
                value = getattr(value, name) if name else None
            elif isinstance(value, Mapping):
                value = value.get(part)
            else:
                return None
        return value


class ControlSizes(Record):
    """What the control is."""

    folder: str = Field(description="its run folder, inside the run's")
    heads: Count = Field(description="symbols in a message of its agent")
    vocab: Count = Field(description="symbols to choose from")


class ControlMetrics(RunMetrics, ControlSizes):
    """The metrics of the holistic control."""


class SeedMetrics(Record):
    """The `metrics.json` of one seed: accuracies of all properties (`together`) and of each."""

    seed: int = Field(description="its number")
    epoch: int = Field(description="of the checkpoint that is kept")
    skipped_batches: int = Field(description="batches whose loss was not finite")
    accuracy_test: dict[str, Fraction] | None = Field(description="as in `metrics.json`")
    accuracy_last_epoch: dict[str, Fraction] = Field(description="as in `metrics.json`")
    accuracy_published_protocol: dict[str, Fraction] | None = Field(
        description="as in `metrics.json`"
    )
    accuracy_validation: dict[str, Fraction] | None = Field(description="as in `metrics.json`")


def has_key(path: str) -> bool:
    """Return whether `metrics.json` can have this path, its parts joined by dots.

    >>> has_key("compositionality.topsim"), has_key("compositionality.topsim.luck")
    (True, False)
    """
    kind: Any = RunMetrics
    for part in path.removeprefix("worth.").split("."):
        name = _name_of(kind, part) if is_record(kind) else None
        if name is not None:
            kind = kind_of(fields_of(kind)[name].annotation)
        elif get_origin(kind) is dict:
            kind = kind_of(get_args(kind)[1])
        else:
            return False
    return True


def _name_of(model: type[Record], part: str) -> str | None:
    """The field that is called so, or was."""
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        choices = alias.choices if isinstance(alias, AliasChoices) else ()
        if part == name or part in choices:
            return name
    return None


def fields_of(model: type[Record]) -> dict[str, FieldInfo]:
    """Return the fields of a record, their types resolved."""
    model.model_rebuild()
    return model.model_fields


def is_record(kind: Any) -> bool:
    """Return whether a type is one of this module's records."""
    return isinstance(kind, type) and issubclass(kind, Record)


def kind_of(annotation: Any) -> Any:
    """Return a type without `None` and without its annotations."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    choices = [one for one in get_args(annotation) if one is not type(None)]
    if type(None) in get_args(annotation) and len(choices) == 1:
        return kind_of(choices[0])
    return annotation


def _phrase(error: ValidationError) -> str:
    """What is wrong first, in a phrase."""
    first = error.errors()[0]
    *outer, last = map(str, first["loc"])
    if first["type"] == "missing":
        return f"{'its ' + '.'.join(outer) if outer else 'it'} has no {last!r}"
    return f"its {'.'.join([*outer, last])} cannot be {first['input']!r}"


def percent(score: Spread | None) -> str:
    """Return a fraction over seeds as text for tables.

    >>> percent(Spread(mean=0.851, std=0.056, per_seed=[0.8, 0.9]))
    '85.1 % ± 5.6'
    """
    if score is None or score.mean is None:
        return "-"
    deviation = f" ± {100 * (score.std or 0.0):.1f}" if len(score.per_seed) > 1 else ""
    return f"{100 * score.mean:.1f} %{deviation}"
