"""Validation, canonical form and digest of auth documents: docs/protocol.md 3.1 to 3.6."""

import hashlib
import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdxsync.auth import documents
from cdxsync.base import clock, jsontext
from cdxsync.base.errors import Invalid, Malformed
from tests.support import DATA
from tests.support.documents import make_auth, plain_digest, with_auths

AT = datetime(2026, 2, 1, tzinfo=UTC)
TOKEN = "sk-abcdefghijklmnopqrstuvwxyz0123456789"
VECTORS = json.loads((DATA / "digest_vectors.json").read_text())

# Numbers, texts and nesting as any JSON text may hold them; lone surrogates cannot be encoded.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXTS | st.sampled_from("0123"), inner, max_size=4)
        | st.dictionaries(st.sampled_from("01"), inner)
    ),
    max_leaves=12,
)


def canonicalise(document: Any, token_min_length: int = 24) -> documents.AuthDocument:
    return documents.canonicalise(document, at=AT, token_min_length=token_min_length)


def errors_of(document: Any) -> dict[str, list[str]]:
    with pytest.raises(Invalid) as caught:
        canonicalise(document)
    return caught.value.errors


def with_token(token: object) -> dict[str, Any]:
    return {"last_refresh": "2026-01-01T00:00:00Z", "auths": {"api.openai.com": {"token": token}}}


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_digest_vectors(vector: dict[str, str]) -> None:
    document = canonicalise(jsontext.decode(vector["document"].encode()))
    assert jsontext.reference(document.content).decode() == vector["hashed"]
    assert document.digest == vector["digest"] == hashlib.sha256(vector["hashed"].encode()).hexdigest()


def test_there_are_enough_vectors() -> None:
    assert len({vector["digest"] for vector in VECTORS}) >= 20


PHP = """
while (($line = fgets(STDIN)) !== false) {
    $value = json_decode(rtrim($line, "\\n"), true, 512);
    echo json_encode($value, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES), "\\n";
}
"""


@pytest.mark.skipif(shutil.which("php") is None, reason="php is not installed (Debian package php-cli)")
@settings(max_examples=20)
@given(st.lists(VALUES, min_size=30, max_size=60))
def test_reference_form_is_what_php_writes(values: list[Any]) -> None:
    lines = [json.dumps(value) for value in values]
    done = subprocess.run(["php", "-r", PHP], input="\n".join(lines) + "\n", capture_output=True, check=True, text=True)
    written = done.stdout.split("\n")[: len(lines)]
    assert [jsontext.reference(jsontext.decode(line.encode())).decode() for line in lines] == written


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_reference_floats_keep_their_value(number: float) -> None:
    assert float(jsontext.reference_float(number)) == number


@given(VALUES)
def test_decoding_gives_back_what_was_written(value: Any) -> None:
    assert jsontext.decode(jsontext.plain(value)) == value


@given(st.binary(max_size=40))
def test_any_bytes_decode_or_are_malformed(body: bytes) -> None:
    try:
        value = jsontext.decode(body)
    except Malformed:
        return
    assert value == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"a":1,}',
        b"{'a':1}",
        b"NaN",
        b"[Infinity]",
        b'"\\ud800"',
        b'{"\\udc00":1}',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf{}",
        b"01",
        b"1 2",
        b"[" * 513 + b"]" * 513,
        b"[" * 100_000,
    ],
)
def test_malformed_json_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        jsontext.decode(body)


def test_nesting_up_to_the_limit_is_taken_and_brackets_in_texts_do_not_count() -> None:
    deep = b"[" * 512 + b"]" * 512
    assert jsontext.decode(deep)
    assert jsontext.decode(b'"' + b"[{" * 400 + b'\\""')


def test_numbers_beyond_a_double_name_the_document() -> None:
    for number in ("1e400", "-1e999", "9" * 310, "9" * 5000):
        text = '{"last_refresh":"2026-01-01T00:00:00Z","OPENAI_API_KEY":"%s","n":%s}' % (TOKEN, number)  # noqa: UP031
        assert "out of range" in errors_of(jsontext.decode(text.encode()))["auth"][0]


def test_a_document_as_codex_writes_it_gets_its_auths() -> None:
    document = make_auth()
    canonical = canonicalise(document)
    assert json.loads(canonical.body) == with_auths(document)
    assert list(json.loads(canonical.body))[-1] == "auths"
    assert canonical.digest == plain_digest(with_auths(document))


def test_the_document_without_its_synthesised_auths_is_the_same_document() -> None:
    document = make_auth()
    canonical = canonicalise(document)
    assert plain_digest(document) in canonical.digests
    assert canonicalise(with_auths(document)).digests == canonical.digests
    assert canonicalise(with_auths(document)).same_content(canonical)


def test_auths_that_say_more_are_not_taken_for_synthesised() -> None:
    document = with_auths(make_auth())
    document["auths"]["api.openai.com"]["organization"] = "org-1"
    canonical = canonicalise(document)
    bare = {key: value for key, value in document.items() if key != "auths"}
    assert plain_digest(bare) not in canonical.digests


def test_a_host_that_reserialises_with_python_holds_the_same_document() -> None:
    """An empty object is hashed as an array, but hosts get it as an object, and their own digest of it counts."""
    document = with_auths(make_auth()) | {"agent": {}, "n": 1.0, "big": 2**70}
    canonical = canonicalise(document)
    received = json.loads(canonical.body)
    assert received["agent"] == {}
    assert canonical.digest != plain_digest(received)
    assert plain_digest(received) in canonical.digests


@given(VALUES, st.lists(st.sampled_from(["tokens", "zeta", "last_refresh", "alpha"]), unique=True, min_size=4))
def test_canonicalising_twice_changes_nothing(value: Any, order: list[str]) -> None:
    members = {
        "tokens": {"access_token": TOKEN},
        "zeta": value,
        "last_refresh": "2026-01-01T00:00:00Z",
        "alpha": {"b": 1, "a": 2},
    }
    try:
        once = canonicalise({name: members[name] for name in order})
    except Invalid as error:
        assert "out of range" in str(error.errors)
        return
    again = canonicalise(jsontext.decode(once.body))
    assert again.body == once.body
    assert again.digests == once.digests


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (None, "auth"),
        ([], "auth"),
        ("text", "auth"),
        ({}, "auth.last_refresh"),
        ({}, "auth.auths"),
        ({"last_refresh": 5}, "auth.last_refresh"),
        ({"last_refresh": "yesterday"}, "auth.last_refresh"),
        ({"auths": {}}, "auth.auths"),
        ({"auths": ["x"]}, "auth.auths"),
        ({"auths": {"": {"token": TOKEN}}}, "auth.auths"),
        ({"auths": {"  ": {"token": TOKEN}}}, "auth.auths"),
        ({"auths": {"0": {"token": TOKEN}}}, "auth.auths"),
        ({"auths": {"-17": {"token": TOKEN}}}, "auth.auths"),
        ({"auths": {"x" * 256: {"token": TOKEN}}}, "auth.auths"),
        ({"auths": {"a.example": "text"}}, "auth.auths.a.example"),
        ({"auths": {"a.example": {}}}, "auth.auths.a.example.token"),
        ({"tokens": {"access_token": "short"}}, "auth.auths.api.openai.com.token"),
    ],
)
def test_wrong_fields_are_named(document: Any, field: str) -> None:
    assert field in errors_of(document)


def test_all_wrong_fields_are_named_at_once() -> None:
    errors = errors_of({"last_refresh": "x", "auths": {"a.example": {"token": "x"}, "b.example": 1}})
    assert set(errors) == {"auth.last_refresh", "auth.auths.a.example.token", "auth.auths.b.example"}


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (None, "required"),
        ("   ", "required"),
        (17, "required"),
        ("abcdefghijklm nopqrstuvwxyz", "white space"),
        ("abcdefghijklm\tnopqrstuvwxyz", "white space"),
        ("abcdefghijklmnopqrstuvw", "too short: at least 24"),
        ("a" * 40, "repeated"),
        ("abcde" * 8, "too few different"),
    ],
)
def test_token_quality(token: object, says: str) -> None:
    assert says in errors_of(with_token(token))["auth.auths.api.openai.com.token"][0]


def test_token_limits() -> None:
    assert canonicalise(with_token("abcdefghijklmnopqrstuvwx"))
    assert canonicalise(with_token("abcdef" * 4))
    assert canonicalise(with_token("abcdefgh"), token_min_length=1)
    with pytest.raises(Invalid):
        canonicalise(with_token("abcdefg"), token_min_length=1)
    with pytest.raises(Invalid) as caught:
        canonicalise(with_token("Newer-Token"), token_min_length=8)
    assert "placeholder" in str(caught.value.errors)


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("2026-01-01T00:00:00.373506211Z", "2026-01-01T00:00:00.373506999Z"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00+00:00"),
        ("2026-01-01T00:00:00Z", "2026-01-01T01:30:00.000+01:30"),
        ("2026-01-01T00:00:00Z", "2025-12-31t16:00:00.0000000000000000-08:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
    ],
)
def test_dates_are_compared_by_instant_in_microseconds(text: str, same_as: str) -> None:
    assert clock.parse_rfc3339(text) == clock.parse_rfc3339(same_as)


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)), st.timezones())
def test_dates_round_trip(naive: datetime, zone: Any) -> None:
    moment = naive.replace(tzinfo=zone)
    if moment.utcoffset() != timedelta(minutes=(moment.utcoffset() or timedelta()) // timedelta(minutes=1)):
        return  # historic offsets with seconds have no RFC 3339 form
    assert clock.parse_rfc3339(moment.isoformat()) == clock.Instant.of(moment)


@pytest.mark.parametrize(
    "text",
    [
        "now",
        "@1700000000",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01 00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+00:60",
        " 2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z\n",
        "٢٠٢٦-01-01T00:00:00Z",
    ],
)
def test_other_dates_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        clock.parse_rfc3339(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2000-01-01T00:00:00Z", None),
        ("1999-12-31T23:59:59.999999Z", "too old"),
        ("2026-02-01T00:05:00.999999Z", None),
        ("2026-02-01T00:05:01Z", "future"),
        ("", "required"),
        (None, "required"),
        ("soon", "RFC 3339"),
    ],
)
def test_the_range_of_dates(text: object, says: str | None) -> None:
    if says is None:
        assert clock.check_document_date(text, AT)
        return
    with pytest.raises(ValueError, match=says):
        clock.check_document_date(text, AT)
