"""Asking a target what it is and what it can do, without writing anything.

Two documents are read: the CapabilityStatement (`metadata`) and `.well-known/smart-configuration`. Either may be
missing, hidden behind a login, a page of HTML or absurdly large; that is part of the answer and no failure.

Facts: FHIR R4 capabilities interaction (https://hl7.org/fhir/R4/http.html#capabilities), SMART App Launch 2.2,
section Conformance (https://hl7.org/fhir/smart-app-launch/conformance.html).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from medscribe_pipeline.ehr.statement import Claims, TypeClaims, read_statement
from medscribe_pipeline.ehr.targets import check_release, explain
from medscribe_pipeline.errors import ConfigError, MedscribeError, ProviderContractError, Retriable
from medscribe_pipeline.providers.http import CredentialsError, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medscribe_pipeline.ehr.targets import Explained
    from medscribe_pipeline.providers.http import HttpClient
    from medscribe_pipeline.settings import EhrSettings

__all__ = ["Fetched", "Notice", "ProbeReport", "SmartClaims", "fetch_statement", "probe", "read_smart"]

How = Literal["shown", "missing", "hidden", "not_json", "other_content", "too_large", "redirected", "failing"]

_HEADERS = {"Accept": "application/fhir+json, application/json", "Cache-Control": "no-cache"}

_OUR_TYPES = ("Composition", "DocumentReference", "Provenance")

_KIND_IN_SOFTWARE = (
    ("hapi", "hapi"),
    ("medplum", "medplum"),
    ("epic", "epic"),
    ("cerner", "oracle"),
    ("millennium", "oracle"),
    ("azure", "azure"),
    ("microsoft", "azure"),
    ("google", "google"),
    ("healthlake", "healthlake"),
)


@dataclass(frozen=True, slots=True)
class Fetched:
    """How a server answered when asked for a document of its own.

    Attributes:
        how: `shown`; `missing` (404 and other refusals), `hidden` (401, 403), `not_json` (HTML, nothing),
            `other_content` (JSON, but something else), `too_large`, `redirected`, `failing` (5xx, no answer).
        status: HTTP status, where there was one.
        content: What was shown.
    """

    how: How
    status: int | None = None
    content: dict[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SmartClaims:
    """What `.well-known/smart-configuration` says of the token endpoint; empty where it says nothing."""

    token_endpoint: bool = False
    auth_methods: tuple[str, ...] = ()
    signing_algorithms: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the reader should know: a stable code, and what it means for delivery."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What was found out about a target.

    Attributes:
        target: Its name in the ledger.
        kind: Its kind by the settings.
        statement: How the CapabilityStatement was answered.
        smart: How the SMART configuration was.
        claims: What the first says.
        smart_claims: What the second says.
        explained: The capabilities in force; `None` when there is a `problem` with them.
        problem: Why nothing can be delivered to it as it is configured.
        notices: What else to know.
    """

    target: str
    kind: str
    statement: Fetched
    smart: Fetched
    claims: Claims
    smart_claims: SmartClaims
    explained: Explained | None
    problem: ConfigError | None
    notices: tuple[Notice, ...]

    def detected(self) -> dict[str, bool | str | None]:
        """What the statement says, flat: `None` for what it leaves unsaid."""
        found: dict[str, bool | str | None] = {name: self.claims.takes(name) for name in ("transaction", "batch")}
        for name in _OUR_TYPES:
            said = self.claims.types.get(name)
            if said is None:
                found[name] = False if self.claims.types else None
                continue
            found |= {f"{name}.{key}": value for key, value in _facts(said).items()}
        return found


def probe(http: HttpClient, settings: EhrSettings, *, release: Literal["R4", "R5"] = "R4") -> ProbeReport:
    """Finds out what a target is and can do. Two requests (and what logging in takes), nothing is written.

    Args:
        http: Client of its base URL.
        settings: Its settings.
        release: The release our documents are built in.

    Raises:
        ConfigError: Code `capabilities`: the user's file cannot be used; `tls_certificate`, `request`: no request can
            be made at all.
        Retriable: The server cannot be reached.
    """
    statement = fetch_statement(http)
    smart = _fetch_smart(http)
    claims = read_statement(statement.content)
    smart_claims = read_smart(smart.content)
    problem, explained = None, None
    try:
        explained = explain(settings, statement.content)
        check_release(claims, release)
    except ConfigError as error:
        if error.code == "capabilities":
            raise
        problem = error
    notices = (
        *_about_documents(statement, smart, settings),
        *_about_kind(claims, settings),
        *(_about_capabilities(explained, statement, settings) if explained else ()),
        *_about_login(smart, smart_claims, settings),
    )
    return ProbeReport(
        target=settings.target,
        kind=settings.kind,
        statement=statement,
        smart=smart,
        claims=claims,
        smart_claims=smart_claims,
        explained=explained,
        problem=problem,
        notices=notices,
    )


def fetch_statement(http: HttpClient) -> Fetched:
    """Reads the CapabilityStatement.

    Raises:
        ConfigError: No request can be made.
        Retriable: The server cannot be reached.
    """
    found = _fetch(http, "metadata")
    if found.content is not None and found.content.get("resourceType") != "CapabilityStatement":
        return Fetched("other_content", found.status)
    return found


def read_smart(configuration: dict[str, Any] | None) -> SmartClaims:
    """Reads a SMART configuration, or anything else, without ever raising."""
    known = configuration or {}
    return SmartClaims(
        token_endpoint=isinstance(known.get("token_endpoint"), str),
        auth_methods=_words(known.get("token_endpoint_auth_methods_supported")),
        signing_algorithms=_words(known.get("token_endpoint_auth_signing_alg_values_supported")),
        capabilities=_words(known.get("capabilities")),
    )


def _fetch_smart(http: HttpClient) -> Fetched:
    try:
        found = _fetch(http, ".well-known/smart-configuration")
    except Retriable as error:
        return Fetched("failing", error.status)
    if found.content is not None and not any(
        name in found.content for name in ("token_endpoint", "authorization_endpoint", "capabilities")
    ):
        return Fetched("other_content", found.status)
    return found


def _fetch(http: HttpClient, path: str) -> Fetched:
    try:
        answer = http.request("GET", path, headers=_HEADERS, repeat=True)
    except MedscribeError as error:
        return Fetched(_unread(error), error.status)
    if not isinstance(answer.body, dict):
        return Fetched("not_json" if answer.body is None else "other_content", answer.status)
    return Fetched("shown", answer.status, answer.body)


def _unread(error: MedscribeError) -> How:
    """What an error says of a document; raised again where it says that there is no server to ask."""
    if isinstance(error, CredentialsError):
        return "hidden"
    if isinstance(error, Refused):
        return "missing"
    if isinstance(error, ProviderContractError):
        return _UNREADABLE.get(error.code, "not_json")
    if isinstance(error, Retriable) and error.code == "server_error":
        return "failing"
    raise error


_UNREADABLE: dict[str, How] = {
    "body_too_large": "too_large",
    "redirect": "redirected",
}


def _facts(said: TypeClaims) -> dict[str, bool | str | None]:
    return {
        **{name: said.takes(name) for name in ("create", "read", "update", "search-type")},
        "conditionalCreate": said.conditional_create,
        "conditionalUpdate": said.conditional_update,
        "versioning": said.versioning,
        "search by identifier": None if said.search_params is None else "identifier" in said.search_params,
    }


def _about_documents(statement: Fetched, smart: Fetched, settings: EhrSettings) -> Iterator[Notice]:
    if statement.how != "shown":
        yield Notice(
            f"statement_{statement.how}",
            "There is no CapabilityStatement to read: the profile of the kind, and your file, decide alone. Check the "
            f"base URL, and set {settings.variable('kind')} if the kind is known.",
        )
    if smart.how != "shown" and settings.sign_in == "smart" and settings.token_url is None:
        yield Notice(
            f"smart_{smart.how}",
            f"There is no SMART configuration to read: set {settings.variable('token_url')}.",
        )


def _about_kind(claims: Claims, settings: EhrSettings) -> Iterator[Notice]:
    software = (claims.software or "").lower()
    likely = next((kind for word, kind in _KIND_IN_SOFTWARE if word in software), None)
    if likely is not None and likely != settings.kind:
        yield Notice(
            "kind_differs",
            f"The software looks like the kind {likely}; {settings.variable('kind')} says {settings.kind}.",
        )
    if "spark" in software:
        yield Notice(
            "conditions_doubtful",
            "Spark has been seen to misread conditional creates it claims. Run `medscribe ehr selftest` first.",
        )
    if settings.kind == "medplum" or likely == "medplum":
        yield Notice(
            "medplum_transactions",
            "Without the project flag transaction-bundles a transaction is silently carried out as a batch; the "
            "built-in profile sends batches. Each entry is judged on its own either way.",
        )
    if settings.kind == "hapi" or likely == "hapi":
        yield Notice(
            "hapi_placeholders",
            "Leave auto_create_placeholder_reference_targets off: with it the server makes up patients that are "
            "referred to and not there.",
        )


def _about_capabilities(explained: Explained, statement: Fetched, settings: EhrSettings) -> Iterator[Notice]:
    able = explained.capabilities
    if able.strategy == "unconditional":
        yield Notice(
            "nothing_twice",
            "The server cannot tell whether it has a note already. A note is sent once; when the answer is missing "
            + ("it is looked for." if able.search else "it waits for a person (`medscribe deliveries`)."),
        )
    elif able.conditional_create:
        yield Notice("run_selftest", "Whether conditional create really works only `medscribe ehr selftest` shows.")
    if missing := [each for each in ("final", "amended") if each not in able.doc_status]:
        yield Notice("doc_status", f"Notes with docStatus {', '.join(missing)} are not taken, and are held.")
    if able.references == "literal":
        yield Notice(
            "references_literal",
            "Patients have to be found on the server: by identifier search, or by `medscribe links import`.",
        )
    if settings.capabilities is None:
        return
    without = _said_without_file(settings, statement)
    for name, known in explained.sources.items():
        denied = without.get(name)
        if known.origin == "override" and denied is not None and denied != known.value:
            yield Notice("file_overrules", f"Your file sets {name} against what the server says of itself.")


def _said_without_file(settings: EhrSettings, statement: Fetched) -> dict[str, Any]:
    """What the statement changed, by field, had there been no file."""
    try:
        alone = explain(settings.model_copy(update={"capabilities": None}), statement.content)
    except ConfigError:
        return {"kinds": ()}
    return {name: known.value for name, known in alone.sources.items() if known.origin == "statement"}


def _about_login(smart: Fetched, said: SmartClaims, settings: EhrSettings) -> Iterator[Notice]:
    if settings.sign_in != "smart" or smart.how != "shown":
        return
    if not said.token_endpoint:
        yield Notice(
            "smart_no_token_endpoint",
            f"The SMART configuration names no token endpoint: set {settings.variable('token_url')}.",
        )
    if said.auth_methods and "private_key_jwt" not in said.auth_methods:
        yield Notice("smart_no_key_login", "The server does not list private_key_jwt: it may not take our key.")
    if said.signing_algorithms and not {"RS384", "ES384"} & set(said.signing_algorithms):
        yield Notice("smart_algorithms", "The server lists neither RS384 nor ES384 for signatures.")


def _words(value: object) -> tuple[str, ...]:
    """Codes of a list; foreign, so only what looks like one."""
    listed = value if isinstance(value, list) else []
    return tuple(each for each in listed if isinstance(each, str) and each.isascii() and 0 < len(each) <= 64)[:50]  # noqa: PLR2004 - no real code or list is longer
