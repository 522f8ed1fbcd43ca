"""Clips to features: decoding and a frozen backbone, into a feature cache."""

from pipeline.extraction.extract import default_workers, extract
from pipeline.extraction.phase87 import (
    FeatureFileComparison,
    cache_path,
    compare_feature_files,
    is_rebuilt,
    load_settings,
    rebuild_feature_file,
    scenario_clips,
)
from pipeline.extraction.repair import repair_cache
from pipeline.extraction.summary import (
    ExtractionSummary,
    print_failures,
    print_summary,
    progress_callback,
    require_clips,
)

__all__ = [
    "ExtractionSummary",
    "FeatureFileComparison",
    "cache_path",
    "compare_feature_files",
    "default_workers",
    "extract",
    "is_rebuilt",
    "load_settings",
    "print_failures",
    "print_summary",
    "progress_callback",
    "rebuild_feature_file",
    "repair_cache",
    "require_clips",
    "scenario_clips",
]
