"""The outside world on loopback: the APIs of Askara, AudioScribe, Nabla and Intron, and a small FHIR R4 endpoint.

It plays what the pipeline talks to, over real HTTP, with seeded synthetic consultations that change on request and
faults on demand. It shares no code with what it tests but the errors a person sees.

>>> with Sandbox() as sandbox:
...     sandbox.environment()["MEDSCRIBE_EHR_BASE_URL"] == sandbox.fhir_url
True
"""

from __future__ import annotations

from medscribe_pipeline.sandbox.askara import AskaraOptions
from medscribe_pipeline.sandbox.audioscribe import AudioScribeOptions
from medscribe_pipeline.sandbox.consultations import MARKERS
from medscribe_pipeline.sandbox.corpus import CorpusOptions
from medscribe_pipeline.sandbox.fates import Fate, JobOptions
from medscribe_pipeline.sandbox.faults import Fault, Faults
from medscribe_pipeline.sandbox.fhir_server import FhirOptions
from medscribe_pipeline.sandbox.generations import advance
from medscribe_pipeline.sandbox.intron import IntronOptions
from medscribe_pipeline.sandbox.nabla import NablaOptions
from medscribe_pipeline.sandbox.outbox import PushOptions
from medscribe_pipeline.sandbox.server import Sandbox
from medscribe_pipeline.sandbox.serving import serve
from medscribe_pipeline.sandbox.world import World

__all__ = [
    "MARKERS",
    "AskaraOptions",
    "AudioScribeOptions",
    "CorpusOptions",
    "Fate",
    "Fault",
    "Faults",
    "FhirOptions",
    "IntronOptions",
    "JobOptions",
    "NablaOptions",
    "PushOptions",
    "Sandbox",
    "World",
    "advance",
    "serve",
]
