from __future__ import annotations

import hashlib

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.sandbox.multipart import FormReader, MultipartError, boundary_of


def _read(body: bytes, boundary: bytes, sizes: list[int]) -> FormReader:
    form, place = FormReader(boundary), 0
    for size in [*sizes, len(body)]:
        form.feed(body[place : place + size])
        place += size
    form.close()
    return form


@settings(max_examples=60, deadline=None)
@given(
    file=st.one_of(
        st.binary(max_size=300),
        # What looks like the beginning of a boundary, and is none.
        st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"--", b"\r\n--x", b"\r\n--xyz", b"a"])).map(b"".join),
    ),
    text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=50),
    sizes=st.lists(st.integers(1, 40), max_size=60),
)
def test_any_pieces_make_the_same_form(file: bytes, text: str, sizes: list[int]) -> None:
    # Some clients normalise line breaks of fields; httpx does not, and neither may the reader.
    request = httpx.Request(
        "POST",
        "http://localhost/",
        data={"audio_file_name": text, "empty": ""},
        files={"audio_file_blob": ("Zzmark é.wav", file, "audio/wav")},
        headers={"content-type": "multipart/form-data; boundary=xyz-qx-boundary"},
    )

    form = _read(request.read(), b"xyz-qx-boundary", sizes)

    part = form.files["audio_file_blob"]
    assert form.fields == {"audio_file_name": text, "empty": ""}
    assert (part.filename, part.content_type, part.size) == ("Zzmark é.wav", "audio/wav", len(file))
    assert part.digest.hexdigest() == hashlib.sha256(file).hexdigest()


def test_a_large_file_is_not_held() -> None:
    form = FormReader(b"b")
    form.feed(b'--b\r\nContent-Disposition: form-data; name="f"; filename="x.wav"\r\n\r\n')
    for _ in range(200):
        form.feed(b"\r\n--a" * 4000)
        assert len(form._buffer) < 10
    form.feed(b"\r\n--b--\r\n")
    form.close()

    assert form.files["f"].size == 200 * 5 * 4000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"--b\r\n",
        b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\ntext',
        b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\ntext\r\n--b\r\n',
        b"--b\r\n\r\ntext\r\n--b--",
        b"--b\r\nContent-Disposition: form-data\r\n\r\ntext\r\n--b--",
        b"--boundary\r\n\r\n--boundary--",
        b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\n' + b"x" * 70_000 + b"\r\n--b--",
        b"--b\r\nX: " + b"x" * 9000,
        b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\n\r\n' * 101 + b"--b--",
    ],
)
def test_what_is_no_form_is_refused(body: bytes) -> None:
    with pytest.raises(MultipartError):
        _read(body, b"b", [])


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b"', b"a b"),
        ("multipart/form-data", None),
        ("multipart/mixed; boundary=abc", None),
        ("application/json", None),
        ("", None),
    ],
)
def test_boundaries(content_type: str, expected: bytes | None) -> None:
    assert boundary_of(content_type) == expected
