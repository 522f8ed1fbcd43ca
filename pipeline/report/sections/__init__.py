"""The sections of a run's page, found by their files.

A module here with a `SECTION` and a template of the same name add a section to the page.
"""

from pipeline.report.sections.section import FOLDER, ReportContext, Section, discover_sections

__all__ = ["FOLDER", "ReportContext", "Section", "discover_sections"]
