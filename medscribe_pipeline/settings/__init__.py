"""Every setting, once: environment variables (or a `.env` file) into typed, checked values.

`docs/configuration.md` is generated from these classes (`make docs`), so the field descriptions are the
documentation. Secrets are `SecretStr`; nothing here ever prints a value, only the name of a variable.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Literal, Self, TypeVar
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsError

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.settings.base import (
    PREFIX,
    EncryptionKey,
    HttpSettings,
    JobSettings,
    ProviderSettings,
    model_config_for,
)
from medscribe_pipeline.settings.ehr import EHR_PREFIX, EhrSettings
from medscribe_pipeline.settings.fhir import FhirSettings
from medscribe_pipeline.settings.providers import AskaraSettings, AudioScribeSettings, IntronSettings, NablaSettings
from medscribe_pipeline.settings.services import ReceiverSettings, WatchSettings

__all__ = [
    "AskaraSettings",
    "AudioScribeSettings",
    "EhrSettings",
    "FhirSettings",
    "HttpSettings",
    "IntronSettings",
    "JobSettings",
    "NablaSettings",
    "ProviderSettings",
    "ReceiverSettings",
    "Settings",
    "WatchSettings",
    "watch_settings",
]

S = TypeVar("S", bound=BaseSettings)


class Settings(BaseSettings):
    """The settings of one code location: one account, its warehouse and how runs behave."""

    model_config = model_config_for(PREFIX)

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
    processes: int = Field(
        0,
        ge=0,
        le=64,
        description="Processes that map notes and build documents at the same time, this one included; 1: no other than this one. 0: one for each core this process may use, at most 4.",
    )
    sweep_policy: Literal["report", "retract"] = Field(
        "report",
        description="What a sweep does with records their provider holds no more: `report` counts them, `retract` withdraws their notes, also from the EHR.",
    )
    sweep_max_share: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Largest share of a stream's records a sweep believes to be gone at once; five of them it always may. More is reported and not believed.",
    )
    sweep_confirm_after_s: int = Field(
        86_400,
        ge=0,
        description="Where a missing record cannot be asked for: it is believed to be gone when two sweeps this far apart have missed it.",
    )
    history_days: int = Field(
        365, ge=0, description="How long replaced versions of notes are kept, in days; 0 keeps none."
    )
    payload_days: int = Field(
        0,
        ge=0,
        description="How long payloads are kept as received, in days; 0 for ever. Later their text is removed and their hash kept; such a record cannot be mapped anew.",
    )
    encryption_key: EncryptionKey | None = Field(
        None,
        description="Key the payloads in quarantine are sealed with: 32 random bytes in Base64 (`openssl rand -base64 32`). Without it they are kept as they came.",
    )
    encryption_old_key: EncryptionKey | None = Field(
        None, description="The key before that one, for as long as something is sealed with it."
    )
    quarantine_budget: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of the records an asset takes on in a run that may go to quarantine; above it the asset fails, after it has stored everything. 1 never fails.",
    )
    quarantine_floor: int = Field(
        10, ge=0, description="So many records a run may go to quarantine whatever their share is."
    )

    askara: AskaraSettings = Field(default_factory=AskaraSettings, exclude=True)
    audioscribe: AudioScribeSettings = Field(default_factory=AudioScribeSettings, exclude=True)
    nabla: NablaSettings = Field(default_factory=NablaSettings, exclude=True)
    intron: IntronSettings = Field(default_factory=IntronSettings, exclude=True)
    fhir: FhirSettings = Field(default_factory=FhirSettings, exclude=True)
    ehr: EhrSettings = Field(default_factory=EhrSettings, exclude=True)
    ehr_more_targets: tuple[str, ...] = Field(
        (),
        description="Names of further FHIR servers to deliver to, as a JSON list; the settings of `store` are "
        "`MEDSCRIBE_EHR_STORE_BASE_URL` and so on.",
    )
    more_targets: tuple[EhrSettings, ...] = Field(
        default_factory=lambda data: tuple(EhrSettings.named(name) for name in data.get("ehr_more_targets", ())),
        exclude=True,
    )
    receiver: ReceiverSettings = Field(default_factory=ReceiverSettings, exclude=True)
    watch: WatchSettings = Field(default_factory=WatchSettings, exclude=True)

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError("is not an IANA time zone such as Europe/Paris") from None
        return value

    @field_validator("ehr_more_targets")
    @classmethod
    def _names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) for name in names):
            raise ValueError("must be names of letters, digits, '.', '_' and '-'")
        # Variables and assets know neither case nor punctuation.
        if len({re.sub("[^A-Z0-9]", "_", name.upper()) for name in names}) < len(names):
            raise ValueError("names a target twice: case, '.', '_' and '-' make no difference")
        return names

    @model_validator(mode="after")
    def _own_names(self) -> Self:
        if self.ehr.enabled and self.ehr.target in self.ehr_more_targets:
            raise ValueError(f"{PREFIX}EHR_MORE_TARGETS and {self.ehr.variable('target')} are the same name")
        return self

    @field_validator("home")
    @classmethod
    def _absolute_home(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property
    def targets(self) -> dict[str, EhrSettings]:
        """The FHIR servers we deliver to, by name, `ehr` first; those without a base URL are left out."""
        return {each.target: each for each in (self.ehr, *self.more_targets) if each.enabled}

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
        """Names of the providers that have credentials, in the order of the fields above, which is that of syncing."""
        groups = ((name, getattr(self, name)) for name in type(self).model_fields)
        return tuple(name for name, own in groups if isinstance(own, ProviderSettings) and own.enabled)

    def identifier_system(self, provider: str, kind: str) -> str:
        """The identifier system of a provider's `patient`, `practitioner` or `encounter` ids, as the EHR knows it."""
        configured: str | None = getattr(getattr(self, provider), f"{kind}_system")
        return configured or f"{self.fhir.base_uri}/sid/{provider}/{self.account}/{kind}"

    @classmethod
    def load(cls) -> Settings:
        """Reads all settings; a wrong one becomes a `ConfigError` that names the variable, never its value."""
        return _read(cls)


def watch_settings() -> WatchSettings:
    """Reads only how to be watched, which is needed before anything else; wrong ones as `Settings.load`."""
    return _read(WatchSettings)


def _read(group: type[S]) -> S:
    try:
        return group()
    except ValidationError as error:
        raise _as_config_error(error) from None
    except SettingsError as error:
        # A list that is no JSON, or a group of settings given as one variable. The text names the field only:
        # `... for field "askara" from ...`.
        problem = _unreadable(str(error).partition('"')[2].partition('"')[0])
        raise ConfigError(f"Wrong setting. {problem}", code="setting") from None
    except (UnicodeDecodeError, OSError):
        raise ConfigError("The file .env cannot be read as UTF-8 text", code="setting") from None


def _groups() -> tuple[type[BaseSettings], ...]:
    annotations = (field.annotation for field in Settings.model_fields.values())
    return tuple(each for each in annotations if isinstance(each, type) and issubclass(each, BaseSettings))


def _unreadable(field: str) -> str:
    """What is wrong with a variable whose text is no JSON where it has to be."""
    known = Settings.model_fields.get(field)
    if known is not None and known.exclude:
        name = f"{PREFIX}{field.upper()}"
        return f"{name}: is no setting; set the variables that begin with {name}_"
    own = _groups() if known is None else ()
    prefix = next((each.model_config.get("env_prefix") for each in own if field in each.model_fields), PREFIX)
    return f"{prefix}{field.upper()}: must be JSON"


def _as_config_error(error: ValidationError) -> ConfigError:
    """Turns pydantic's report into one message; `error.title` is the class, whose prefix names the variable."""
    known: tuple[type[BaseSettings], ...] = (Settings, *_groups())
    classes = {each.__name__: each for each in known}
    prefix = str(classes[error.title].model_config.get("env_prefix", PREFIX)) if error.title in classes else PREFIX
    if error.title.startswith(EHR_PREFIX):
        prefix = error.title
    problems = []
    for detail in error.errors(include_input=False, include_url=False, include_context=False):
        # Indices name an entry of a list, and no variable.
        parts = [part for part in detail["loc"] if isinstance(part, str)]
        name = prefix + "_".join(parts).upper() if parts else ""
        message = detail["msg"].removeprefix("Value error, ")
        problems.append(f"{name}: {message}" if name else message)
    return ConfigError("Wrong setting. " + "; ".join(problems), code="setting")
