"""Metrics of messages and properties: pure functions that import nothing else of `pipeline`.

Each metric is a record (`Metric`) in a module of this package; `METRICS` holds them by name, and
adding a module with a record adds the metric. Read no metric without what chance gives
(`permutation_null`); see `assess` for intervals and verdicts, and
`docs/metrics.md` for definitions.
"""

from pipeline.metrics.concept_best_matching import Match, best_matches
from pipeline.metrics.information import (
    adjusted_mutual_information,
    bin_property,
    entropy,
    joint_counts,
    message_entropy,
    message_ids,
    mutual_information,
)
from pipeline.metrics.language import (
    bosdis_chaabouni2020,
    bosdis_wmcp,
    posdis_chaabouni2020,
    posdis_wmcp,
)
from pipeline.metrics.metric import Metric, known_metrics
from pipeline.metrics.ranking import exceeds, merge_ties, spearman
from pipeline.metrics.resampling import draw_objects, number_objects, permutations
from pipeline.metrics.significance import (
    COVERAGE,
    Assessment,
    assess,
    interval,
    p_value,
    permutation_null,
    permuted_values,
)
from pipeline.metrics.topsim import topsim
from pipeline.metrics.verdicts import (
    COMPOSITIONAL,
    LEAST_NULLS,
    NOT_TESTED,
    UNDECIDED,
    UNDEFINED,
    VERDICTS,
    Evidence,
    own_leads,
)

METRICS = known_metrics()
"""Every metric of this package, by name."""

__all__ = [
    "COMPOSITIONAL",
    "COVERAGE",
    "LEAST_NULLS",
    "METRICS",
    "NOT_TESTED",
    "UNDECIDED",
    "UNDEFINED",
    "VERDICTS",
    "Assessment",
    "Evidence",
    "Match",
    "Metric",
    "adjusted_mutual_information",
    "assess",
    "best_matches",
    "bin_property",
    "bosdis_chaabouni2020",
    "bosdis_wmcp",
    "draw_objects",
    "entropy",
    "exceeds",
    "interval",
    "joint_counts",
    "merge_ties",
    "message_entropy",
    "message_ids",
    "mutual_information",
    "number_objects",
    "own_leads",
    "p_value",
    "permutation_null",
    "permutations",
    "permuted_values",
    "posdis_chaabouni2020",
    "posdis_wmcp",
    "spearman",
    "topsim",
]
