"""What the steps of a self-test share: the target, the ways of sending, and what stands there by now."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.ehr.comparing import note_identifier_of
from medscribe_pipeline.ehr.ledger import Copy, State
from medscribe_pipeline.ehr.selftest.findings import Finding, Left
from medscribe_pipeline.ehr.selftest.specimen import Specimen, Version
from medscribe_pipeline.ehr.sending import Shipment, Verdict
from medscribe_pipeline.ehr.strategies import open_strategy
from medscribe_pipeline.ehr.strategies.steps import PROVENANCE
from medscribe_pipeline.errors import ConfigError, MedscribeError, ProviderContractError, Retriable
from medscribe_pipeline.providers.http import CredentialsError, Refused, Unsettled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from medscribe_pipeline.ehr.client import FhirClient
    from medscribe_pipeline.ehr.selftest.specimen import Placed
    from medscribe_pipeline.ehr.targets import Capabilities
    from medscribe_pipeline.fhir.options import BuildOptions
    from medscribe_pipeline.settings import EhrSettings

__all__ = ["Bench", "Item", "documents_of", "forbidden"]

ENTERED_IN_ERROR = "entered-in-error"
UNKNOWN = "unknown"


@dataclass(slots=True)
class Item:
    """A resource of ours on the server.

    Attributes:
        specimen: The note it is of.
        kind: The kind of document.
        type: Resource type.
        copy: Its id, and the ETag it had last.
        version: The version of the note it is of.
        status: Its `status`, as far as we know; `-` for a type that has none.
    """

    specimen: Specimen
    kind: str
    type: str
    copy: Copy
    version: str
    status: str


@dataclass(slots=True)
class Bench:
    """A self-test under way.

    Attributes:
        client: The target.
        settings: Its settings.
        capabilities: Those the next step goes by; an earlier step may have taken some away.
        options: How documents are built.
        placed: Whom they are about.
        run_id: Made for this run.
        may_leave_two: Whether a second document may be left on a server that cannot tell.
        sleep: Waits.
        main: The note all steps but two are about.
        first: Its first version, once the server has it.
        copies: What the server holds of the note by kind, without its Provenance.
        stale: Copies with ETags that have been overtaken.
        stale_write: An update that was refused for its ETag, as was right.
        late_s: How long a search took to find what was written; `None` where it does not find it.
        is_readable: Whether documents can be read by their id.
        findings: What was found.
        warnings: What the operator has to know besides.
        items: What stands on the server.
    """

    client: FhirClient
    settings: EhrSettings
    capabilities: Capabilities
    options: BuildOptions
    placed: Placed
    run_id: str
    may_leave_two: bool
    sleep: Callable[[float], None]
    main: Specimen
    first: Version
    copies: dict[str, Copy] = field(default_factory=dict)
    stale: dict[str, Copy] = field(default_factory=dict)
    stale_write: Version | None = None
    late_s: float | None = None
    is_readable: bool = False
    findings: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    items: dict[tuple[str, str], Item] = field(default_factory=dict)

    def specimen(self, name: str) -> Specimen:
        """Another synthetic note of this run."""
        return Specimen(name, self.run_id, self.settings.target, self.placed, self.options)

    def tell(self, code: str, state: Any, text: str, advice: str = "", **more: Any) -> None:
        """Notes a finding; see `Finding`."""
        self.findings.append(Finding(code, state, text, advice, **more))

    def deliver(
        self,
        specimen: Specimen,
        version: Version,
        *,
        standing: Mapping[str, Copy] | None = None,
        standing_version: str | None = None,
        done: Mapping[str, Copy] | None = None,
        capabilities: Capabilities | None = None,
        is_looked_up: bool = True,
        checkpoint: Callable[[str], None] = lambda _: None,
    ) -> Verdict:
        """Sends a version as deliveries do, and looks it up as they do when the answer is missing.

        Raises:
            MedscribeError: There is no server to go on with.
        """
        strategy = open_strategy(capabilities or self.capabilities, self.client, checkpoint)
        shipment = Shipment(version.key, version.resources, standing, standing_version, done or {})
        (verdict,) = strategy.deliver([shipment])
        self.keep(specimen, version, verdict.copies)
        if verdict.state is State.UNKNOWN and is_looked_up:
            self.sleep(self.settings.reconcile_after_s)
            found = strategy.look_up(version.resources, standing)
            self.keep(specimen, version, found.copies)
            if found.state in (State.DELIVERED, State.REJECTED):
                verdict = replace(found, codes=tuple(dict.fromkeys((*verdict.codes, *found.codes, "looked_up"))))
            elif found.state is State.UNKNOWN:
                self.warnings.append("An answer is missing: one more synthetic document may be there than is listed.")
        if verdict.error is not None and _ends(verdict.error):
            raise verdict.error
        return verdict

    def keep(self, specimen: Specimen, version: Version, copies: Mapping[str, Copy]) -> None:
        """Remembers what stands on the server now."""
        for kind, copy in copies.items():
            resource = version.resources.get(kind)
            if resource is not None and copy.server_id is not None:
                type_, status = resource["resourceType"], resource.get("status", "-")
                self.items[type_, copy.server_id] = Item(specimen, kind, type_, copy, version.key.version, status)

    def count(self, specimen: Specimen, version: Version) -> dict[str, int] | None:
        """How many documents of a note a search finds, by kind; `None` where searching does not work.

        Raises:
            MedscribeError: There is no server to go on with.
        """
        if self.late_s is None:
            return None
        self.sleep(self.late_s)
        counted = {}
        for kind, resource in documents_of(version).resources.items():
            identifier = note_identifier_of(resource)
            if identifier is None:
                continue
            try:
                found = self.client.search(resource["resourceType"], *identifier)
            except MedscribeError as error:
                if not forbidden(error):
                    raise
                return None
            counted[kind] = len(found)
            for each in found:
                if (resource["resourceType"], each.id) not in self.items:
                    self.keep(specimen, version, {kind: Copy(each.id, each.etag)})
        return counted

    def left(self) -> tuple[Left, ...]:
        """What stays on the server."""
        return tuple(Left(each.type, str(each.copy.server_id), each.status) for each in self.items.values())

    def groups(self) -> Iterator[list[Item]]:
        """What is to be withdrawn, such that each group is one version of one note, and has each kind once."""
        groups: list[list[Item]] = []
        for item in self.items.values():
            if item.kind == PROVENANCE or item.status == ENTERED_IN_ERROR:
                continue
            for group in groups:
                same = (group[0].specimen, group[0].version) == (item.specimen, item.version)
                if same and item.kind not in [each.kind for each in group]:
                    group.append(item)
                    break
            else:
                groups.append([item])
        yield from groups


def documents_of(version: Version) -> Version:
    """A version without its Provenance, which can be neither searched nor withdrawn."""
    return version.only(*(kind for kind in version.resources if kind != PROVENANCE))


def forbidden(error: MedscribeError) -> bool:
    """Whether the server answered, and will not have it: that says something of it, and other things may work."""
    if isinstance(error, CredentialsError):
        return error.status == HTTPStatus.FORBIDDEN
    return isinstance(error, (Refused, ProviderContractError)) and error.code not in ("redirect", "path")


def _ends(error: MedscribeError) -> bool:
    """Whether going on makes no sense: there is nobody to talk to, or nobody who lets us in."""
    if isinstance(error, Retriable):
        return not isinstance(error, Unsettled)
    if isinstance(error, ConfigError):
        return error.code != "fhir_endpoint" and not forbidden(error)
    return not forbidden(error)
