"""Where a run comes from, how to repeat it, and the clips that failed in the extraction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.report.provenance import command_to_repeat, provenance
from pipeline.report.sections.section import ReportContext, Section


def build(context: ReportContext) -> Mapping[str, Any]:
    """Return the variables of the template."""
    inputs = context.inputs
    caches = zip(inputs.sources, inputs.caches, strict=True) if inputs else ()
    return {
        "provenance": provenance(context.run, inputs),
        "repeat": command_to_repeat(context.run),
        "failures": [
            (source.name, clip, reason)
            for source, features in caches
            for clip, reason in features.failures
        ],
    }


SECTION = Section(name="provenance", title="Provenance", order=60, build=build)
