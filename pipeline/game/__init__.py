"""TODO"""

from pipeline.game.comparison import (
    PUBLISHED_DRAWS,
    Accuracy,
    Verdicts,
    beyond_margin,
    comparison_loss,
    draw_pairs,
    entropy_bonus,
    epoch_pairs,
    final_messages,
    gumbel_softmax,
    hear,
    paired,
    pooled_accuracy,
    published_accuracy,
    seed_batches,
)

__all__ = [
    "PUBLISHED_DRAWS",
    "Accuracy",
    "Verdicts",
    "beyond_margin",
    "comparison_loss",
    "draw_pairs",
    "entropy_bonus",
    "epoch_pairs",
    "final_messages",
    "gumbel_softmax",
    "hear",
    "paired",
    "pooled_accuracy",
    "published_accuracy",
    "seed_batches",
]
