"""The message of every clip, in a table that can be searched and sorted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.message import wording_for
from pipeline.report.sections.section import ReportContext, Section

MAX_ROWS = 2000


def build(context: ReportContext) -> Mapping[str, Any]:
    """Return the variables of the template: the first lines of `messages.jsonl` with meanings."""
    lines, lexicon = context.run.messages(), context.lexicon
    rows = []
    for line in lines[:MAX_ROWS]:
        gloss = lexicon.gloss(line["tokens"]) if lexicon else ()
        rows.append(line | {"meaning": " | ".join(", ".join(words) for words in gloss)})
    return {
        "messages": rows,
        "all_messages": len(lines),
        "most_rows": MAX_ROWS,
        "columns": [wording_for(name) for name in context.run.config.properties],
    }


SECTION = Section(name="messages", title="Messages", order=50, build=build)
