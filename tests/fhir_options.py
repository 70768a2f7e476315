"""Build options for tests: the defaults of the settings, changed where a test says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from medscribe_pipeline.fhir import BuildOptions, default_mapping

__all__ = ["options"]

DEFAULT = BuildOptions("https://example.org/fhir", default_mapping())


def options(**changes: Any) -> BuildOptions:
    """Options of the default settings with `changes`."""
    return replace(DEFAULT, **changes)
