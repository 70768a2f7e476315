"""`medscribe doctor`: whether everything the connector stands on is in order, and what to do where it is not.

Each check is a function that looks at one thing, changes nothing, and returns a `Check`. What goes wrong while looking
is itself a finding: no check stops the others.
"""

from __future__ import annotations

from medscribe_pipeline.operation.doctor.checks import Check, Level, failed
from medscribe_pipeline.operation.doctor.local import check_local
from medscribe_pipeline.operation.doctor.remote import check_remote
from medscribe_pipeline.operation.doctor.stored import check_stored, open_as_it_is

__all__ = ["Check", "Level", "check_local", "check_remote", "check_stored", "failed", "open_as_it_is"]
