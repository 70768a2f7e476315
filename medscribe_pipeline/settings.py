"""Every setting, once: environment variables (or a `.env` file) into typed, checked values.

`docs/configuration.md` is generated from these classes (`make docs`), so the field descriptions are the
documentation. Secrets are `SecretStr`; nothing here ever prints a value, only the name of a variable.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from medscribe_pipeline.errors import ConfigError

__all__ = [
    "AskaraSettings",
    "AudioScribeSettings",
    "EhrSettings",
    "HttpSettings",
    "ProviderSettings",
    "Settings",
]

PREFIX = "MEDSCRIBE_"


def _http_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("must start with https:// (or http:// for a test server)")
    if "?" in value or "#" in value or "@" in value:
        raise ValueError("must be a plain base URL without credentials, query or fragment")
    return value.rstrip("/")


def _absolute_uri(value: str) -> str:
    if ":" not in value or any(character.isspace() for character in value):
        raise ValueError("must be an absolute URI (https://..., urn:...)")
    return value.rstrip("/")


HttpUrlText = Annotated[str, AfterValidator(_http_url)]
UriText = Annotated[str, AfterValidator(_absolute_uri)]


def _config(prefix: str) -> SettingsConfigDict:
    return SettingsConfigDict(
        env_prefix=prefix,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
        frozen=True,
    )


class HttpSettings(BaseSettings):
    """How we behave towards any HTTP server; each provider and the EHR has its own copy of these."""

    timeout_s: float = Field(
        30.0, gt=0, le=600, description="Longest wait for a connection, or between two bytes of an answer."
    )
    connections: int = Field(4, ge=1, le=64, description="Connections, and threads, used at once.")
    max_attempts: int = Field(
        6, ge=1, le=20, description="Tries of a request that may be repeated, the first included."
    )
    max_wait_s: float = Field(
        60.0, ge=0, le=3600, description="Longest single wait. A `Retry-After` beyond it ends the run cleanly instead."
    )
    backoff_s: float = Field(0.5, ge=0, le=60, description="First ceiling of the jittered wait; doubles with each try.")
    max_body_bytes: int = Field(64_000_000, ge=1_000, description="Largest answer accepted, in bytes.")
    requests_per_minute: int = Field(
        0, ge=0, description="Our own ceiling on the request rate; 0 leaves it to the server's headers."
    )


class ProviderSettings(HttpSettings):
    """What every provider has."""

    max_pages: int = Field(100_000, ge=1, description="Pages read in one sync before we call it a loop and stop.")
    patient_system: UriText | None = Field(
        None,
        description="Identifier system under which the EHR knows this provider's patient ids. Default: a system of the project.",
    )
    practitioner_system: UriText | None = Field(
        None, description="The same for the provider's user (clinician) ids. Default: a system of the project."
    )
    encounter_system: UriText | None = Field(
        None, description="The same for encounter ids given in the visits manifest. Default: a system of the project."
    )


class AskaraSettings(ProviderSettings):
    """Askara: present as soon as a token or the OAuth triple is given."""

    model_config = _config(f"{PREFIX}ASKARA_")

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


class AudioScribeSettings(ProviderSettings):
    """Dictanote AudioScribe: present as soon as a token is given."""

    model_config = _config(f"{PREFIX}AUDIOSCRIBE_")

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


class EhrSettings(HttpSettings):
    """The EHR's FHIR endpoint: present as soon as its base URL is given."""

    model_config = _config(f"{PREFIX}EHR_")

    base_url: HttpUrlText | None = Field(None, description="FHIR R4 base URL of the EHR.")
    token: SecretStr | None = Field(None, description="Bearer token; none is sent without it.")
    target: str = Field(
        "ehr",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Name of this target in the delivery ledger. Keep it when the URL changes: it is how the ledger knows what is there.",
    )
    reconcile_after_s: float = Field(
        2.0,
        ge=0,
        le=600,
        description="Wait before a delivery with unknown outcome is looked up, so that a slow server can finish.",
    )

    @property
    def enabled(self) -> bool:
        """Whether there is an EHR to deliver to."""
        return self.base_url is not None

    @model_validator(mode="after")
    def _whole_target(self) -> Self:
        if self.token is not None and self.base_url is None:
            raise ValueError(f"{PREFIX}EHR_TOKEN is set; missing: {PREFIX}EHR_BASE_URL")
        return self


class Settings(BaseSettings):
    """The settings of one code location: one account, its warehouse and how runs behave."""

    model_config = _config(PREFIX)

    home: Path = Field(
        Path("~/.medscribe"), description="Folder of the embedded warehouse, the Dagster instance and the locks."
    )
    warehouse_url: SecretStr | None = Field(
        None, description="SQLAlchemy URL of the warehouse. Default: SQLite, `warehouse.sqlite` under `MEDSCRIBE_HOME`."
    )
    account: str = Field(
        "default",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Name of the account whose credentials are set; part of every key. One code location serves one account.",
    )
    timezone: str = Field("UTC", description="IANA time zone of timestamps that name none, and of the visit day.")
    first_day: date = Field(date(2015, 1, 1), description="First visit-day partition. Older records count to this day.")
    fhir_base_uri: UriText = Field(
        "https://medscribe-pipeline.github.io/fhir",
        description="Base of the identifier and code systems the project owns.",
    )
    lookback_s: int = Field(
        600, ge=0, description="How far behind the watermark a sync reads again, for records that arrive late."
    )
    lag_s: int = Field(30, ge=0, description="The watermark stays at least this far behind the start of the sync.")
    lock_timeout_s: float = Field(
        30.0, ge=0, description="How long a run waits for another run of the same stream to end."
    )
    schedule: str = Field("*/15 * * * *", description="Cron expression (in `MEDSCRIBE_TIMEZONE`) of the sync schedule.")
    backfill: Literal["single_run", "multi_run"] = Field(
        "single_run",
        description="`single_run` builds a range of days in one run; `multi_run` one run a day, for a distributed launcher.",
    )

    askara: AskaraSettings = Field(default_factory=AskaraSettings, exclude=True)
    audioscribe: AudioScribeSettings = Field(default_factory=AudioScribeSettings, exclude=True)
    ehr: EhrSettings = Field(default_factory=EhrSettings, exclude=True)

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError("is not an IANA time zone such as Europe/Paris") from None
        return value

    @field_validator("home")
    @classmethod
    def _absolute_home(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property
    def zone(self) -> ZoneInfo:
        """The time zone object of `timezone`."""
        return ZoneInfo(self.timezone)

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the warehouse, the default filled in. May hold a password: never print it."""
        if self.warehouse_url is not None:
            return self.warehouse_url.get_secret_value()
        return f"sqlite:///{self.home / 'warehouse.sqlite'}"

    @property
    def providers(self) -> tuple[str, ...]:
        """Names of the providers that have credentials, in the order they are synced."""
        return tuple(name for name in ("askara", "audioscribe") if getattr(self, name).enabled)

    def identifier_system(self, provider: str, kind: str) -> str:
        """The identifier system of a provider's `patient`, `practitioner` or `encounter` ids, as the EHR knows it."""
        configured: str | None = getattr(getattr(self, provider), f"{kind}_system")
        return configured or f"{self.fhir_base_uri}/sid/{provider}/{self.account}/{kind}"

    @classmethod
    def load(cls) -> Settings:
        """Reads all settings; a wrong one becomes a `ConfigError` that names the variable, never its value."""
        try:
            return cls()
        except ValidationError as error:
            raise _as_config_error(error) from None
        except SettingsError as error:
            # A group of settings given as one variable. The text names the field: `... for field "askara" from ...`.
            field = str(error).partition('"')[2].partition('"')[0].upper()
            raise ConfigError(
                f"Wrong setting. {PREFIX}{field}: is no setting; set the variables that begin with {PREFIX}{field}_",
                code="setting",
            ) from None
        except (UnicodeDecodeError, OSError):
            raise ConfigError("The file .env cannot be read as UTF-8 text", code="setting") from None


def _as_config_error(error: ValidationError) -> ConfigError:
    """Turns pydantic's report into one message; `error.title` is the class, whose prefix names the variable."""
    classes: dict[str, type[BaseSettings]] = {
        cls.__name__: cls for cls in (Settings, AskaraSettings, AudioScribeSettings, EhrSettings)
    }
    prefix = str(classes[error.title].model_config.get("env_prefix", PREFIX)) if error.title in classes else PREFIX
    problems = []
    for detail in error.errors(include_input=False, include_url=False, include_context=False):
        name = prefix + "_".join(str(part) for part in detail["loc"]).upper() if detail["loc"] else ""
        message = detail["msg"].removeprefix("Value error, ")
        problems.append(f"{name}: {message}" if name else message)
    return ConfigError("Wrong setting. " + "; ".join(problems), code="setting")
