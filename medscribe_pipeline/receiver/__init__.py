"""The receiver: callbacks and webhooks of the providers into the table `inbox`.

`app` holds the paths and what they answer, `signatures` who may speak, `limits` how much, `events` what a body holds,
`writer` the way into the warehouse, `metrics` the counters, `server` the process.
"""

from __future__ import annotations

from medscribe_pipeline.receiver.app import receiver_app
from medscribe_pipeline.receiver.server import Receiver, serve
from medscribe_pipeline.receiver.signatures import sign

__all__ = ["Receiver", "receiver_app", "serve", "sign"]
