"""Settings of the providers. A provider is present as soon as it has credentials."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from medscribe_pipeline.settings.base import (
    PREFIX,
    HttpUrlText,
    JobSettings,
    ProviderSettings,
    SecretUrl,
    model_config_for,
)

__all__ = ["AskaraSettings", "AudioScribeSettings", "IntronSettings", "NablaSettings"]


class AskaraSettings(ProviderSettings):
    """Askara: present as soon as a token or the OAuth triple is given."""

    model_config = model_config_for(f"{PREFIX}ASKARA_")

    base_url: HttpUrlText = Field("https://api.askara.ai", description="Base URL of the Askara API.")
    token: SecretStr | None = Field(None, description="A fixed bearer token. Excludes the three OAuth settings.")
    client_id: str | None = Field(None, description="OAuth client id.")
    client_secret: SecretStr | None = Field(None, description="OAuth client secret.")
    refresh_token: SecretStr | None = Field(
        None,
        description="OAuth refresh token of the first authorisation. Single-use: its successors are kept in the warehouse. "
        "Set a new one to re-authorise.",
    )
    token_url: HttpUrlText | None = Field(
        None, description="OAuth token endpoint. Default: `/oauth2/token` under the base URL."
    )
    page_size: int = Field(100, ge=1, le=100, description="`itemsPerPage`; the API allows up to 100.")
    notes_by: Literal["list", "audio"] = Field(
        "list", description="`list` pages through `/notes`; `audio` asks `/notes` once for every changed audio."
    )
    notes_audio_filter: str = Field(
        "audio", pattern=r"^[A-Za-z\[\]_.]+$", description="Name of the query parameter that filters `/notes` by audio."
    )
    reviewed_steps: tuple[Literal["transcribed", "edition", "validated"], ...] = Field(
        ("validated",),
        description="Workflow steps whose notes count as reviewed, as a JSON list; `validated` is always one. Every "
        "further one sends text out as final that nobody has signed: `edition` means that a clinician has opened it "
        "for editing, `transcribed` that a machine has written it. Such notes name no attester. Add one only if "
        "your clinicians answer for every note in that step.",
    )

    @property
    def enabled(self) -> bool:
        """Whether any credential is set."""
        return any((self.token, self.client_id, self.client_secret, self.refresh_token))

    @model_validator(mode="after")
    def _whole_credentials(self) -> Self:
        oauth = {
            "CLIENT_ID": self.client_id,
            "CLIENT_SECRET": self.client_secret,
            "REFRESH_TOKEN": self.refresh_token,
        }
        given = [name for name, value in oauth.items() if value]
        if self.token and given:
            raise ValueError(f"set either {PREFIX}ASKARA_TOKEN or the OAuth settings, not both")
        if given and len(given) < len(oauth):
            missing = ", ".join(f"{PREFIX}ASKARA_{name}" for name in oauth if name not in given)
            raise ValueError(f"OAuth needs all three settings; missing: {missing}")
        return self

    @field_validator("reviewed_steps")
    @classmethod
    def _validated_stays(cls, steps: tuple[str, ...]) -> tuple[str, ...]:
        if "validated" not in steps:
            raise ValueError("must list validated: what a clinician has signed off is reviewed")
        return steps


class AudioScribeSettings(ProviderSettings):
    """Dictanote AudioScribe: present as soon as a token is given."""

    model_config = model_config_for(f"{PREFIX}AUDIOSCRIBE_")

    base_url: HttpUrlText = Field("https://dictanote.co", description="Base URL; the API path is added to it.")
    token: SecretStr | None = Field(None, description="Bearer token.")
    resource: Literal["sessions", "notes"] = Field(
        "sessions", description="Name of the listed resource: two snapshots of the vendor's page differ."
    )
    first_page: int = Field(0, ge=0, description="Number of the first page.")
    stop_after_known_pages: int = Field(
        0,
        ge=0,
        description="Stop once this many pages in a row held only known, unchanged sessions. 0 reads to the end, "
        "the only way to see edits of old sessions.",
    )
    reviewed: bool = Field(
        False,
        description="Say `true` only if your clinicians sign off every session in AudioScribe before it is pulled: "
        "notes then count as validated. AudioScribe itself has no status.",
    )

    @property
    def enabled(self) -> bool:
        """Whether any credential is set."""
        return self.token is not None


class NablaSettings(JobSettings):
    """Nabla: present as soon as a server key or an OAuth client is given."""

    model_config = model_config_for(f"{PREFIX}NABLA_")

    region: Literal["us", "eu"] = Field("us", description="Region of the account; part of the default base URL.")
    base_url: HttpUrlText | None = Field(
        None,
        description="Base URL. Default: `https://<region>.api.nabla.com`, or `https://api.nabla.com` for `archived`.",
    )
    api_version: Literal["archived", "2024-04-22", "2024-10-01", "2025-05-07", "2026-02-20", "2026-06-12"] = Field(
        "2024-10-01",
        description="Generation of the API; decides paths, spellings and the `X-Nabla-Api-Version` header. "
        "`archived` is the one with `listen_async`.",
    )
    path_prefix: str | None = Field(
        None,
        pattern=r"^/[A-Za-z0-9/_-]*$",
        description="Path between base URL and endpoint. Default: `/v1/copilot-api/server` up to 2024-04-22, "
        "`/v1/core/server` after.",
    )
    submit_path: str | None = Field(
        None,
        pattern=r"^/[A-Za-z0-9/_-]+$",
        description="Path that takes a transcription. Default by version; one vendor page spells it `/transcribe_async`.",
    )
    send_version_header: bool = Field(
        True, description="Send `X-Nabla-Api-Version`; without it the account's own pin counts."
    )
    token: SecretStr | None = Field(None, description="Static server key. Excludes the two OAuth settings.")
    client_id: str | None = Field(None, description="OAuth client id (a UUID).")
    private_key_file: Path | None = Field(
        None, description="PEM file with the RSA private key of the OAuth client; must not be readable by others."
    )
    key_id: str | None = Field(None, description="`kid` of that key, where the client is registered by a JWKS URL.")
    callback_url: SecretUrl | None = Field(
        None,
        description="Public URL of our receiver for Nabla; needed for `archived`, which answers only there: "
        "`https://<host>/callbacks/nabla`, and `/<MEDSCRIBE_RECEIVER_PATH_SECRET>` after it without a webhook secret.",
    )
    webhook_secret: SecretStr | None = Field(None, description="Secret of the webhook; its signature is then required.")
    language: str = Field("en-US", description="Language of visits that name none, as a BCP 47 tag.")
    template: str = Field(
        "GENERAL_MEDICINE", description="Note template of visits that name none, old or new spelling."
    )
    section_style: Literal["auto", "paragraphs", "bullet_points"] = Field("auto", description="Style of note sections.")
    split_by_problem: bool = Field(False, description="Ask for subsections by problem where the API can.")
    split_by_sentence: bool = Field(False, description="Ask for one transcript item a sentence.")
    make_notes: bool = Field(True, description="Also ask for a note; `false` transcribes only.")
    reviewed: bool = Field(
        False,
        description="Say `true` only if every note is signed off by a clinician before it gets here: it then counts as validated.",
    )

    @property
    def enabled(self) -> bool:
        """Whether any credential is set."""
        return any((self.token, self.client_id, self.private_key_file))

    @model_validator(mode="after")
    def _whole_credentials(self) -> Self:
        oauth = {"CLIENT_ID": self.client_id, "PRIVATE_KEY_FILE": self.private_key_file}
        given = [name for name, value in oauth.items() if value]
        if self.token and given:
            raise ValueError(f"set either {PREFIX}NABLA_TOKEN or the OAuth settings, not both")
        if given and len(given) < len(oauth):
            missing = ", ".join(f"{PREFIX}NABLA_{name}" for name in oauth if name not in given)
            raise ValueError(f"OAuth needs both settings; missing: {missing}")
        if self.enabled and self.api_version == "archived" and self.callback_url is None:
            raise ValueError(f"the archived API answers by callback only; missing: {PREFIX}NABLA_CALLBACK_URL")
        return self


class IntronSettings(JobSettings):
    """Intron Health: present as soon as a token is given."""

    model_config = model_config_for(f"{PREFIX}INTRON_")

    base_url: HttpUrlText = Field(
        "https://infer.voice.intron.io", description="Base URL; older accounts use `https://infer.intron.health`."
    )
    token: SecretStr | None = Field(None, description="API key, sent as bearer token.")
    ca_file: Path | None = Field(
        None, description="PEM file with the certificate authorities to trust; certificates are always checked."
    )
    status_calls_per_minute: int = Field(
        100, ge=1, description="Budget of status calls, shared by all runs of the account."
    )
    uploads_per_minute: int = Field(30, ge=1, description="Budget of uploads, shared by all runs of the account.")
    category: Literal["general", "telehealth", "procedure", "call_center"] = Field(
        "telehealth", description="`use_category` of visits that name none."
    )
    post_processing: tuple[str, ...] | None = Field(
        None,
        description="The `get_*` flags to ask for, as a JSON list without the prefix. Default: all documented ones of the category.",
    )
    diarization: bool = Field(True, description="`use_diarization` of visits that do not say.")
    language: str = Field("en", description="Language of visits that name none.")
    max_file_bytes: int = Field(100_000_000, ge=1, description="Largest local file uploaded, in bytes.")
    audio_folder: Path | None = Field(
        None, description="Folder local audio files of the manifest must lie in; without it no local file is read."
    )
    reviewed: bool = Field(
        False,
        description="Say `true` only if every note is signed off by a clinician before it gets here: it then counts as validated.",
    )

    @property
    def enabled(self) -> bool:
        """Whether any credential is set."""
        return self.token is not None
