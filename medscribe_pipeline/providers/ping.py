"""One cheap request to a provider that proves it can be reached and takes our credentials."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from medscribe_pipeline.providers import askara, audioscribe, intron, nabla
from medscribe_pipeline.providers.catalogue import PROVIDERS
from medscribe_pipeline.providers.http import Refused

if TYPE_CHECKING:
    from datetime import datetime

    from medscribe_pipeline.providers.answers import Answer
    from medscribe_pipeline.providers.http import HttpClient
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["ping"]

NOBODYS_JOB = "00000000-0000-4000-8000-000000000000"
"""A job that does not exist. Who is told so has been let in, and nothing was changed."""

TIMEOUT_S = 10.0


def ping(settings: Settings, warehouse: Warehouse, name: str) -> datetime | None:
    """Asks a provider for as little as it can give: one page of one record, or a job that does not exist.

    Args:
        settings: The settings.
        warehouse: Where tokens that are traded for others are kept.
        name: A configured provider.

    Returns:
        The provider's time, where its answer says so.

    Raises:
        CredentialsError: It does not take our credentials.
        MedscribeError: It cannot be reached, or answers something else; see `HttpClient.request`.
    """
    own = getattr(settings, name)
    limits = {"max_attempts": 1, "max_wait_s": 0.0, "timeout_s": min(own.timeout_s, TIMEOUT_S)}
    quick = settings.model_copy(update={name: own.model_copy(update=limits)})
    with PROVIDERS[name].open_client(quick, warehouse) as client:
        try:
            return _ask(client, quick, name).server_time
        except Refused as error:
            if PROVIDERS[name].work is None or error.status not in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND):
                raise
            return error.answer.server_time


def _ask(client: HttpClient, settings: Settings, name: str) -> Answer:
    if name == askara.NAME:
        return client.get_json(f"/{askara.AUDIOS}", [("page", "1"), ("itemsPerPage", "1")])
    if name == audioscribe.NAME:
        own = settings.audioscribe
        return client.get_json(f"/api/v1/audioscribe/{own.resource}/", [("page", str(own.first_page))])
    if name == intron.NAME:
        return client.get_json(f"/file/v1/status/{NOBODYS_JOB}")
    headers = nabla.version_headers(settings.nabla)
    return client.request("GET", f"/transcribe-async/{NOBODYS_JOB}", headers=headers, repeat=True)
