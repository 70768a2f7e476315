from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.providers.multipart import FilePart, multipart
from tests.medscribe_pipeline.providers.intron_cases import parts_of
from tests.medscribe_pipeline.providers.scripted_server import Seen


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(["get_summary", "use_category", "audio_file_url"]), st.text()), st.binary())
def test_whatever_goes_in_comes_out(fields: dict[str, str], content: bytes) -> None:
    part = FilePart("blob", "x.wav", "audio/wav", len(content), lambda: iter([content[:3], content[3:]]))

    form = multipart(fields, part)

    body = b"".join(form.content())
    assert form.headers["Content-Length"] == str(len(body))
    *texts, file = parts_of(Seen("POST", "/", {"content-type": form.headers["Content-Type"]}, body))
    assert [(text.name, text.content.decode("utf-8")) for text in texts] == list(fields.items())
    assert (file.content, file.media_type) == (content, "audio/wav")
    assert file.disposition == {"name": "blob", "filename": "x.wav"}


def test_without_a_file_the_last_field_is_closed_properly() -> None:
    form = multipart({"a": "1", "b": ""})

    body = b"".join(form.content())

    parts = parts_of(Seen("POST", "/", {"content-type": form.headers["Content-Type"]}, body))
    assert [(part.name, part.content) for part in parts] == [("a", b"1"), ("b", b"")]
    assert form.headers["Content-Length"] == str(len(body))


def test_the_body_can_be_had_again_and_no_two_forms_share_a_boundary() -> None:
    form = multipart({"a": "1"})

    assert list(form.content()) == list(form.content())
    assert form.headers["Content-Type"] != multipart({"a": "1"}).headers["Content-Type"]
