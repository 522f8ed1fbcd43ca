"""TODO"""

from pipeline.extraction.extract import GPU_BATCH, default_workers, extract
from pipeline.extraction.phase87 import (
    Comparison,
    cache_path,
    find_clips,
    plan,
    rebuild,
)
from pipeline.extraction.phase87 import compare as compare_feature_files
from pipeline.extraction.repair import repair
from pipeline.extraction.stages import Summary
from pipeline.extraction.summary import on, require_clips, say

__all__ = [
    "GPU_BATCH",
    "Comparison",
    "Summary",
    "cache_path",
    "compare_feature_files",
    "default_workers",
    "extract",
    "find_clips",
    "on",
    "plan",
    "rebuild",
    "repair",
    "require_clips",
    "say",
]
