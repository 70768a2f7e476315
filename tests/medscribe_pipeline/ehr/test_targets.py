from __future__ import annotations

import copy
import string
from contextlib import suppress
from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st
from pydantic import ValidationError

from medscribe_pipeline.ehr.statement import STRATEGIES, read_statement
from medscribe_pipeline.ehr.targets import Capabilities, explain, load, profiles, sources
from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.settings import EhrSettings
from tests.medscribe_pipeline.ehr.odd_ehr import STATEMENT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Edit = Callable[[dict[str, Any]], object]

KINDS = get_args(EhrSettings.model_fields["kind"].annotation)
SMALL = st.sampled_from([True, False, None, "x", 3, "create", "identifier", "no-version", "transaction"])


def of(kind: str, **changes: Any) -> EhrSettings:
    return EhrSettings.model_validate({"kind": kind, "base_url": "http://127.0.0.1:1/fhir", **changes})


def saying(edit: Edit) -> dict[str, Any]:
    """The statement of a server that can do everything, with one thing changed."""
    statement = copy.deepcopy(STATEMENT)
    edit(statement)
    return statement


def each_type(**changes: Any) -> Edit:
    return lambda statement: [each.update(changes) for each in statement["rest"][0]["resource"]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_whole_profile_that_does_not_contradict_itself(kind: str) -> None:
    profile = profiles()[kind]

    assert set(profile.values) == set(Capabilities.model_fields)
    assert {value.source for value in profile.values.values()} <= set(sources())
    assert load(of(kind))


def test_there_is_a_profile_for_every_kind_and_no_source_too_many() -> None:
    used = {value.source for profile in profiles().values() for value in profile.values.values()}

    assert set(profiles()) == set(KINDS)
    assert used == set(sources())


def test_the_generic_profile_is_the_default() -> None:
    assert load(of("generic")) == Capabilities()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("hapi", {"strategy": "transaction", "conditional_create": True}),
        ("medplum", {"strategy": "batch", "entries_per_bundle": 8, "max_bundle_bytes": 5_000_000}),
        (
            "epic",
            {
                "strategy": "unconditional",
                "kinds": ("DocumentReference",),
                "conditional_create": False,
                "search": False,
                "if_match": False,
                "content_types": ("text/plain",),
                "plain_content_type": True,
                "attachments": "first",
                "amendment": "hold",
                "retraction": "hold",
                "references": "literal",
                "author": "omit",
                "encounter": "required",
                "drop": ("meta", "masterIdentifier", "identifier", "custodian"),
            },
        ),
        (
            "oracle",
            {
                "strategy": "unconditional",
                "doc_status": ("final", "amended"),
                "period_end_required": True,
                "if_match": True,
                "amendment": "update",
                "references": "literal",
            },
        ),
        ("azure", {"strategy": "transaction", "entries_per_bundle": 500}),
        ("google", {"strategy": "transaction", "max_bundle_bytes": 50_000_000}),
        (
            "healthlake",
            {
                "strategy": "single",
                "conditional_create": False,
                "idempotency_header": "x-amz-fhir-idempotency-key",
                "entries_per_bundle": 160,
            },
        ),
        (
            "us-core-9",
            {
                "strategy": "single",
                "conditional_create": True,
                "kinds": ("DocumentReference",),
                "amendment": "new_document",
                "references": "literal",
            },
        ),
    ],
)
def test_what_decides_about_duplicates_and_wrong_charts(kind: str, expected: dict[str, Any]) -> None:
    loaded = load(of(kind)).model_dump()

    assert {name: loaded[name] for name in expected} == expected


def test_no_profile_sends_transcripts_unasked() -> None:
    assert not [kind for kind in KINDS if "Transcript" in load(of(kind)).kinds]


def test_a_server_that_claims_everything_keeps_everything() -> None:
    assert load(of("generic"), STATEMENT) == Capabilities()


@pytest.mark.parametrize(
    ("edit", "field", "value"),
    [
        (lambda s: s["rest"][0].update(interaction=[{"code": "batch"}]), "strategy", "batch"),
        (lambda s: s["rest"][0].update(interaction=[{"code": "history-system"}]), "strategy", "single"),
        (lambda s: s["rest"][0].pop("interaction"), "strategy", "single"),
        (each_type(conditionalCreate=False), "conditional_create", False),
        (each_type(conditionalCreate=False), "strategy", "unconditional"),
        (lambda s: s["rest"][0]["resource"][1].pop("conditionalCreate"), "strategy", "unconditional"),
        (each_type(searchParam=[{"name": "patient"}]), "search", False),
        (each_type(searchParam=None), "search", False),
        (each_type(interaction=[{"code": "create"}, {"code": "update"}]), "search", False),
        (each_type(interaction=[{"code": "create"}, {"code": "update"}]), "read", False),
        (each_type(interaction=[{"code": "create"}, {"code": "read"}]), "amendment", "hold"),
        (each_type(interaction=[{"code": "create"}, {"code": "read"}]), "retraction", "hold"),
        (each_type(interaction=[{"code": "create"}, {"code": "update"}], versioning="no-version"), "amendment", "hold"),
        (each_type(versioning="no-version"), "if_match", False),
        (each_type(versioning=None), "if_match", False),
        (each_type(referencePolicy=["literal", "enforced"]), "references", "literal"),
        (each_type(referencePolicy=["literal", "logical"]), "references", "logical"),
        (lambda s: s["rest"][0]["resource"].pop(0), "kinds", ("DocumentReference",)),
        (
            lambda s: s["rest"][0]["resource"][0].update(interaction=[{"code": "read"}]),
            "kinds",
            ("DocumentReference",),
        ),
    ],
)
def test_what_a_generic_server_does_not_claim_it_cannot_do(edit: Edit, field: str, value: Any) -> None:
    assert getattr(load(of("generic"), saying(edit)), field) == value


@pytest.mark.parametrize(
    ("edit", "strategy"),
    [
        (each_type(conditionalCreate=None), "transaction"),
        (each_type(conditionalCreate=False), "unconditional"),
        (lambda s: s["rest"][0].pop("interaction"), "transaction"),
        (lambda s: s["rest"][0].update(interaction=[{"code": "batch"}]), "batch"),
    ],
)
def test_of_a_known_kind_only_what_is_denied_is_taken_away(edit: Edit, strategy: str) -> None:
    assert load(of("hapi"), saying(edit)).strategy == strategy


def test_a_key_keeps_single_posts_possible_without_conditions() -> None:
    loaded = load(of("healthlake"), saying(each_type(conditionalCreate=False)))

    assert (loaded.strategy, loaded.conditional_create) == ("single", False)


def test_a_statement_never_adds_what_the_profile_has_not() -> None:
    assert load(of("epic"), STATEMENT) == load(of("epic"))
    assert load(of("us-core-9"), STATEMENT) == load(of("us-core-9"))


def test_provenance_goes_where_it_can_be_put_under_an_id_of_ours() -> None:
    read_only = saying(lambda s: s["rest"][0]["resource"][2].update(interaction=[{"code": "read"}]))

    assert "Provenance" in load(of("hapi"), STATEMENT).kinds
    assert "Provenance" not in load(of("hapi"), read_only).kinds


def test_a_server_that_takes_none_of_our_documents_is_refused_unless_the_file_knows_better(tmp_path: Path) -> None:
    patients_only = saying(lambda s: s["rest"][0].update(resource=[{"type": "Patient"}]))
    file = tmp_path / "own.toml"
    file.write_text('kinds = ["DocumentReference"]')

    with pytest.raises(ConfigError) as refused:
        load(of("hapi"), patients_only)

    assert refused.value.code == "no_documents"
    assert load(of("hapi", capabilities=file), patients_only).kinds == ("DocumentReference",)


@pytest.mark.parametrize(
    ("version", "release", "accepted"),
    [
        ("4.0.1", "R4", True),
        ("4.3.0", "R4", True),
        ("5.0.0", "R5", True),
        ("5.0.0", "R4", False),
        ("4.0.1", "R5", False),
        ("3.0.2", "R4", False),
    ],
)
def test_the_release_of_the_server_has_to_be_that_of_the_documents(version: str, release: Any, accepted: bool) -> None:
    statement = {"fhirVersion": version}

    if accepted:
        assert load(of("generic"), statement, release=release).release == release
        return
    with pytest.raises(ConfigError) as refused:
        load(of("generic"), statement, release=release)
    assert refused.value.code == "fhir_version"


def test_without_a_statement_the_profile_or_the_file_says_the_release(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('release = "R5"')

    with pytest.raises(ConfigError):
        load(of("epic"), release="R5")
    with pytest.raises(ConfigError):
        load(of("generic", capabilities=file), release="R4")

    assert load(of("epic", capabilities=file), release="R5").release == "R5"


def test_of_a_server_of_no_kind_the_setting_says_the_release() -> None:
    assert load(of("generic"), release="R5").release == "R5"


def test_the_file_has_the_last_word_and_every_value_says_where_it_is_from(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('search = true\nencounter = "required"\nidempotency_header = ""\n')
    statement = saying(
        lambda s: [each_type(searchParam=[{"name": "patient"}])(s), each_type(versioning="no-version")(s)]
    )

    known = explain(of("generic", capabilities=file), statement)

    assert known.capabilities.search
    assert known.capabilities.idempotency_header is None
    assert {name: known.sources[name].origin for name in ("search", "encounter", "if_match", "read")} == {
        "search": "override",
        "encounter": "override",
        "if_match": "statement",
        "read": "profile",
    }
    assert known.sources["search"].why == "own.toml"
    assert known.sources["read"].why == "documented, r4"
    assert {name: each.value for name, each in known.sources.items()} == dict(known.capabilities)


@pytest.mark.parametrize(
    ("text", "fields", "hint"),
    [
        ('strategy = "transaction"\nconditional_create = false', (), "needs conditional_create"),
        ('strategy = "batch"\nconditional_create = false', (), "needs conditional_create"),
        ('strategy = "single"\nconditional_create = false', (), "idempotency_header"),
        ("conditional_create = false", (), "needs conditional_create"),
        ("if_match = false\nread = false", (), "if_match or read"),
        ('drop = ["identifier"]', (), "identifier"),
        ('drop = ["subject"]', (), "no document can be without"),
        ('kinds = ["Provenance"]', (), "document"),
        ('kinds = ["Composition", "Composition"]', (), "twice"),
        ("doc_status = []", (), "at least one"),
        ('kinds = ["Composition", "DocumentReference", "Provenance"]\nentries_per_bundle = 2', (), "room"),
        ('strategy = "magic"', ("strategy",), "transaction"),
        ('content_types = ["text/plain; charset=utf-8"]', ("content_types.0",), "pattern"),
        ("entries_per_bundle = 1", ("entries_per_bundle",), "greater"),
        ("strateggy = 1", ("strateggy",), "strategy"),
        ('"S3CRET token" = 1', (), "no capabilities"),
        ("", (), "says nothing"),
        ("strategy = ", (), "not TOML"),
    ],
)
def test_a_file_that_cannot_be_used_says_what_to_do(
    tmp_path: Path, text: str, fields: tuple[str, ...], hint: str
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)

    with pytest.raises(ConfigError) as refused:
        load(of("generic", capabilities=file))

    assert (refused.value.code, refused.value.field_paths) == ("capabilities", fields)
    assert refused.value.context == {"file": "own.toml", "setting": "MEDSCRIBE_EHR_CAPABILITIES"}
    assert hint in str(refused.value)
    assert "S3CRET" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_the_file_of_a_further_target_is_named_by_its_own_setting(tmp_path: Path) -> None:
    store = EhrSettings.named("store").model_copy(update={"capabilities": tmp_path / "gone.toml"})

    with pytest.raises(ConfigError, match="MEDSCRIBE_EHR_STORE_CAPABILITIES"):
        load(store)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a" * 200_000])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "own.toml"
    file.write_bytes(content)

    with pytest.raises(ConfigError) as refused:
        load(of("generic", capabilities=file))

    assert refused.value.code == "capabilities"


def test_contradictions_are_refused_wherever_capabilities_are_made() -> None:
    with pytest.raises(ValidationError, match="needs conditional_create"):
        Capabilities(strategy="batch", conditional_create=False)


def test_foreign_names_are_shown_in_one_short_line() -> None:
    claims = read_statement({"software": {"name": "A\x1b[31m\nB" * 100, "version": "2"}})

    assert claims.software
    assert claims.software.isprintable()
    assert len(claims.software) < 100


def _changed(draw: st.DrawFn, node: Any) -> Any:
    """A statement with holes and surprises in it."""
    if draw(st.integers(0, 12)) == 0:
        return draw(JSON)
    if isinstance(node, dict):
        return {name: _changed(draw, value) for name, value in node.items() if draw(st.integers(0, 12))}
    if isinstance(node, list):
        return [_changed(draw, each) for each in node if draw(st.integers(0, 12))]
    return node


JSON = st.recursive(
    SMALL | st.text(string.printable, max_size=6) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["rest", "resource", "interaction", "code", "type", "mode", "searchParam", "software"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)
STATEMENTS = JSON | st.composite(_changed)(copy.deepcopy(STATEMENT))


@bounded(max_examples=150, deadline=None)
@given(statement=STATEMENTS, kind=st.sampled_from(KINDS))
def test_no_json_breaks_it_or_adds_an_ability(statement: Any, kind: str) -> None:
    before = load(of(kind))

    with suppress(_NoDocumentsError):
        _only_less(before, _explained(kind, statement))


class _NoDocumentsError(Exception):
    """The one refusal a statement may lead to."""


def _explained(kind: str, statement: Any) -> Capabilities:
    try:
        return explain(of(kind), statement).capabilities
    except ConfigError as error:
        if error.code == "no_documents":
            raise _NoDocumentsError from None
        raise


def _only_less(before: Capabilities, after: Capabilities) -> None:
    assert STRATEGIES.index(after.strategy) >= STRATEGIES.index(before.strategy)
    assert set(after.kinds) <= set(before.kinds)
    for name in ("conditional_create", "search", "read", "if_match"):
        assert getattr(after, name) <= getattr(before, name)
    for name in ("amendment", "retraction"):
        assert getattr(after, name) in (getattr(before, name), "hold")
    assert (before.references, after.references) != ("literal", "logical")
    same = set(Capabilities.model_fields) - {
        *("strategy", "kinds", "conditional_create", "search", "read", "if_match"),
        *("amendment", "retraction", "references", "release"),
    }
    assert {name: getattr(after, name) for name in same} == {name: getattr(before, name) for name in same}
