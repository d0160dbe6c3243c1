"""Signatures as hosts verify them: one block of bytes is right, and none of those that libraries have taken for it."""

import hashlib
import json
import secrets
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from cdxsync.base.errors import Failed
from cdxsync.security import signing
from cdxsync.security.signing import Content, SigningKey, SigningKeys
from cdxsync.wrapper.src import signatures
from cdxsync.wrapper.src.signatures import KEY_BYTES, SHA256_INFO, Unsigned, has_signed

TEXT = signing.cdx_text("web1.example.net", "1.2.3", "a" * 64)
DIGEST = hashlib.sha256(TEXT).digest()
INFO = {
    "md5": bytes.fromhex("3020300c06082a864886f70d020505000410"),
    "sha1": bytes.fromhex("3021300906052b0e03021a05000414"),
    "sha224": bytes.fromhex("302d300d06096086480165030402040500041c"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
    "sha512/256": bytes.fromhex("3031300d060960864801650304020605000420"),
}
WITHOUT_NULL = bytes.fromhex("302f300b0609608648016503040201") + b"\x04\x20"
LONG_LENGTHS = bytes.fromhex("308131300d060960864801650304020105000420")
NULL_WITH_CONTENT = bytes.fromhex("3032300e0609608648016503040201050100") + b"\x04\x20"
PARAMETERS_WITH_GARBAGE = bytes.fromhex("3039301506096086480165030402010408") + b"\xaa" * 8 + b"\x04\x20"


# Published signatures, most of them bad; their source is in the file.
PUBLISHED = json.loads(
    (Path(__file__).resolve().parents[1] / "support" / "data" / "wycheproof_rsa_3072_sha256.json").read_text()
)


@pytest.fixture(scope="module")
def content() -> Content:
    return signing.first()


@pytest.fixture(scope="module")
def key(content: Content) -> rsa.RSAPrivateKey:
    found = signing.opened(content.keys[0])
    assert found is not None
    return found


def raw(key: rsa.RSAPrivateKey, block: bytes) -> bytes:
    """A block raised to the secret exponent: what a faulty signer, or one who has the key, could make of any block."""
    numbers = key.private_numbers()
    number = int.from_bytes(block, "big")
    assert number < numbers.public_numbers.n
    first, second = pow(number, numbers.dmp1, numbers.p), pow(number, numbers.dmq1, numbers.q)
    return (second + (first - second) * numbers.iqmp % numbers.p * numbers.q).to_bytes(KEY_BYTES, "big")


def block(info: bytes = SHA256_INFO, digest: bytes = DIGEST, *, begin: bytes = b"\0\1", pad: bytes = b"\xff") -> bytes:
    """A block of the right length."""
    end = b"\0" + info + digest
    return begin + pad * (KEY_BYTES - len(begin) - len(end)) + end


def accepts(key: rsa.RSAPrivateKey, signature: bytes, text: bytes = TEXT) -> bool:
    return has_signed(key.public_key().public_numbers().n, text, signature)


def test_a_good_signature_is_taken_and_so_is_the_one_of_the_library(key: rsa.RSAPrivateKey) -> None:
    assert accepts(key, raw(key, block()))
    assert key.sign(TEXT, padding.PKCS1v15(), hashes.SHA256()) == raw(key, block())
    assert accepts(key, bytes.fromhex(signing.signature(key, TEXT)))


def blocks() -> dict[str, bytes]:
    """Blocks that are wrong, by what is wrong with them; many were taken by well-known libraries once."""
    end = b"\0" + SHA256_INFO + DIGEST
    short = b"\0\1" + b"\xff" * 8 + end
    found = {
        "garbage after the digest, eight bytes of padding (2006)": short + b"\xaa" * (KEY_BYTES - len(short)),
        "garbage after the digest, much padding": block()[2:].join((b"\0\1", b""))[:-1] + b"\xaa",
        "zeros after the digest": b"\0\1" + b"\xff" * (KEY_BYTES - 12 - len(end)) + end + b"\0" * 10,
        "no padding": b"\0" * (KEY_BYTES - 2 - len(end)) + b"\0\1" + end,
        "padding too short, zeros before": b"\0\0" + b"\0\1" + b"\xff" * (KEY_BYTES - 4 - len(end)) + end,
        "block type 0": block(begin=b"\0\0", pad=b"\0"),
        "block type 2": block(begin=b"\0\2", pad=b"\x5a"),
        "first byte not zero": b"\1" + block()[1:],
        "padding not ff": block(pad=b"\xfe"),
        "one byte of the padding": block()[:100] + b"\xfe" + block()[101:],
        "a zero within the padding": block()[:100] + b"\0" + block()[101:],
        "no zero after the padding": b"\0\1" + b"\xff" * (KEY_BYTES - 2 - len(end) + 1) + end[1:],
        "the digest alone": b"\0\1" + b"\xff" * (KEY_BYTES - 3 - 32) + b"\0" + DIGEST,
        "without NULL": block(WITHOUT_NULL),
        "lengths in the long form": block(LONG_LENGTHS),
        "NULL with content": block(NULL_WITH_CONTENT),
        "garbage in the parameters": block(PARAMETERS_WITH_GARBAGE),
        "garbage after NULL": block(SHA256_INFO[:17] + b"\xaa" + SHA256_INFO[17:]),
        "a shorter digest": block(SHA256_INFO[:-1] + b"\x1f", DIGEST[:-1]),
        "another digest": block(digest=hashlib.sha256(TEXT + b"x").digest()),
        "the digest of the digest": block(digest=hashlib.sha256(DIGEST).digest()),
        "nothing": b"\0" * KEY_BYTES,
        "one": b"\0" * (KEY_BYTES - 1) + b"\1",
    }
    for name, info in INFO.items():
        length = {"md5": 16, "sha1": 20, "sha224": 28, "sha384": 48, "sha512": 64, "sha512/256": 32}[name]
        digest = DIGEST if name == "sha512/256" else hashlib.new(name, TEXT, usedforsecurity=False).digest()
        assert len(digest) == length
        found[f"the hash {name}"] = block(info, digest)
    return found


@pytest.mark.parametrize("name", blocks())
def test_no_other_block_is_taken(key: rsa.RSAPrivateKey, name: str) -> None:
    wrong = blocks()[name]
    assert len(wrong) == KEY_BYTES
    assert wrong != block()
    signature = raw(key, wrong) if int.from_bytes(wrong, "big") < key.public_key().public_numbers().n else wrong
    assert not accepts(key, signature)


def test_of_published_signatures_only_the_valid_ones_are_taken() -> None:
    # One of them is of a key with another exponent, which no key of ours has.
    (group,) = (each for each in PUBLISHED["groups"] if int(each["exponent"], 16) == signatures.EXPONENT)
    outcomes = {
        (given, has_signed(int(group["modulus"], 16), bytes.fromhex(text), bytes.fromhex(signature)))
        for _, _, given, text, signature in group["tests"]
    }
    assert len(group["tests"]) == 258
    # What some libraries accept (no NULL) is refused as well.
    assert outcomes == {("valid", True), ("invalid", False), ("acceptable", False)}


@settings(max_examples=30)
@given(at=st.integers(0, KEY_BYTES - 1), byte=st.integers(0, 255))
def test_every_byte_of_the_block_counts(key: rsa.RSAPrivateKey, at: int, byte: int) -> None:
    changed = block()[:at] + bytes([byte]) + block()[at + 1 :]
    if int.from_bytes(changed, "big") < key.public_key().public_numbers().n:
        assert accepts(key, raw(key, changed)) is (changed == block())


def test_a_forgery_for_small_exponents_is_not_taken(key: rsa.RSAPrivateKey) -> None:
    """As of 2006: a cube root whose cube begins like a good block. With 65537 there is no such root."""
    begin = b"\0\1" + b"\xff" * 8 + b"\0" + SHA256_INFO + DIGEST
    wanted = int.from_bytes(begin + b"\xff" * (KEY_BYTES - len(begin)), "big")
    low, high = 0, 1 << (8 * KEY_BYTES // 3 + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**3 <= wanted else (low, middle - 1)
    assert (low**3).to_bytes(KEY_BYTES, "big").startswith(begin)
    assert not accepts(key, low.to_bytes(KEY_BYTES, "big"))


def test_a_signature_has_one_form(key: rsa.RSAPrivateKey, content: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "CODEX_SYNC_SIGNING_KEYS", content.public)
    modulus, good = key.public_key().public_numbers().n, raw(key, block())
    for wrong in (good[:-1], good + b"\0", b"\0" + good, b"", good[1:]):
        assert not accepts(key, wrong)
    number = int.from_bytes(good, "big")
    assert not accepts(key, (modulus - number).to_bytes(KEY_BYTES, "big"))
    if (number + modulus).bit_length() <= 8 * KEY_BYTES:  # the same number, but for the modulus
        assert not accepts(key, (number + modulus).to_bytes(KEY_BYTES, "big"))
    name = content.ids[0]
    assert signatures.is_signed(TEXT, f"{name}:{good.hex()}")
    assert signatures.is_signed(TEXT, f"{'0' * 16}:{good.hex()}, {name}:{good.hex()}")
    bad: list[object] = [
        None,
        7,
        [],
        "",
        good.hex(),
        f"{name}:{good.hex().upper()}",
        f"{name}:{good.hex()}\n",
        f"{name}: {good.hex()}",
    ]
    bad += [
        f"{name.upper()}:{good.hex()}",
        f"{'0' * 16}:{good.hex()}",
        f"{name}:{good.hex()}00",
        f"{name}:00{good.hex()}",
    ]
    bad += [f"{name}:{good.hex()[:-1]}٠", ",".join([f"{name}:{'0' * 768}"] * 16 + [f"{name}:{good.hex()}"])]
    assert [given for given in bad if signatures.is_signed(TEXT, given)] == []
    monkeypatch.setattr(signatures, "CODEX_SYNC_SIGNING_KEYS", "")
    assert not signatures.is_signed(TEXT, f"{name}:{good.hex()}")


def test_another_key_is_not_taken(content: Content, key: rsa.RSAPrivateKey) -> None:
    other = signing.opened(SigningKey.generated())
    assert other is not None
    assert not accepts(other, raw(key, block()))
    assert not accepts(key, raw(other, block()))


def test_both_ends_sign_the_same_texts() -> None:
    digest = "0123456789abcdef" * 4
    assert TEXT == b"cdxsync-signature-1\ncdx\nweb1.example.net\n1.2.3\n" + b"a" * 64 + b"\n"
    assert signatures.cdx_text("web1.example.net", "1.2.3", "a" * 64) == TEXT
    prompts = [("a.md", digest), ("B.md", "f" * 64)]
    listed = f"{digest}  a.md\n{'f' * 64}  B.md\n".encode()
    expected = f"cdxsync-signature-1\nprompts\n17\n{hashlib.sha256(listed).hexdigest()}\n".encode()
    assert signatures.prompts_text(17, prompts) == signing.prompts_text(17, prompts) == expected


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "a\r", "a\u2028b", "a\x85"])
def test_no_line_can_be_taken_for_two(name: str) -> None:
    with pytest.raises(Failed):
        signing.cdx_text(name, "1", "a" * 64)
    with pytest.raises(Unsigned):
        signatures.cdx_text(name, "1", "a" * 64)


def test_baked_keys_are_read_strictly(content: Content) -> None:
    changed, keys = signatures.keys_in(content.public)
    assert changed == content.changed
    assert list(keys) == content.ids
    assert signatures.keys_in("") == (0, {})
    modulus = content.keys[0].modulus
    wrong = [
        "1",
        modulus,
        f"1 {modulus[:-1]}",
        f"1 {modulus}0",
        f"1 0{modulus[1:]}",
        f"1  {modulus}",
        f"1 {modulus} ",
        "x",
    ]
    for text in (*wrong, f"1 {modulus}\n", f"-1 {modulus}", "__CODEX_SYNC_SIGNING_KEYS__", "none"):
        with pytest.raises(Unsigned):
            signatures.keys_in(text)


def test_the_file_is_private_and_says_when_it_is_damaged(tmp_path: Path, content: Content) -> None:
    path = tmp_path / "signing.json"
    assert signing.read(path) is None
    signing.write(path, content)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert signing.read(path) == content
    assert "PRIVATE" not in repr(content)
    found = json.loads(path.read_text())
    item = found["keys"][content.ids[0]]
    for damage in ("", "[]", "{}", '{"changed": 1, "keys": {}}', json.dumps(found | {"keys": {"0" * 16: item}})):
        path.write_text(damage)
        with pytest.raises(Failed) as failure:
            signing.read(path)
        assert "PRIVATE" not in str(failure.value)


def test_keys_are_read_again_and_outlive_their_file(tmp_path: Path, content: Content) -> None:
    path = tmp_path / "signing.json"
    keys = SigningKeys(path)
    assert (keys.public, keys.sign(TEXT)) == ("", "")
    signing.write(path, content)
    assert keys.public == content.public
    once = keys.sign(TEXT)
    assert keys.sign(TEXT) == once
    more = content.with_key(SigningKey.generated())
    signing.write(path, more)
    assert keys.sign(TEXT).startswith(once + ",")
    path.write_text("damaged")
    assert keys.public == more.public
    path.unlink()
    assert keys.public == more.public
    # The secret half of another key signs nothing.
    pem = rsa.generate_private_key(65537, 3072).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    mixed = SigningKey(content.keys[0].created, content.keys[0].modulus, pem.decode())
    signing.write(path, Content(1, (mixed, more.keys[1])))
    assert SigningKeys(path).sign(TEXT).split(":")[0] == more.ids[1]


def test_changes_only_rise(content: Content) -> None:
    more = content.with_key(SigningKey.generated())
    less = more.without(content.ids[0])
    assert content.changed < more.changed < less.changed
    assert less.ids == more.ids[1:]
    joined = content.joined(less)
    assert sorted(joined.ids) == sorted(more.ids)
    assert joined.changed > less.changed
    assert content.joined(content) == content
    assert secrets.compare_digest(content.joined(more).public.split(" ")[1], content.keys[0].modulus)
