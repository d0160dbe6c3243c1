"""What hosts run is the fleet's: a balancer that was taken over, and has the certificate, puts nothing on them."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cdxsync.security import signing
from cdxsync.security.signing import SigningKey, SigningKeys
from cdxsync.wrapper import baking
from tests.support.documents import make_auth
from tests.support.fleet import free_port
from tests.support.machines import Machine, host
from tests.support.tampering import Tampering, Told

HEADER = signing.HEADER
EVIL = b"\nopen('/tmp/never', 'w').close()\n"


@pytest.fixture(scope="module")
def balancer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tampering]:
    """A fleet whose hosts call a balancer that ends TLS."""
    started = Tampering(tmp_path_factory.mktemp("signed") / "home")
    started.start(free_port())
    started.fleet.upload(make_auth())
    yield started
    started.stop()


@pytest.fixture
def machine(balancer: Tampering, tmp_path: Path) -> Iterator[Machine]:
    """A host in step, behind an honest balancer."""
    balancer.change = lambda told: None
    made = host(balancer.fleet, tmp_path)
    assert made.run_cdx("--wrapper-sync").stderr.endswith("is in sync with the server\n")
    yield made
    balancer.change = lambda told: None


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def keys(balancer: Tampering) -> SigningKeys:
    return SigningKeys(balancer.fleet.home / "signing.json")


def serves(balancer: Tampering, body: bytes, version: str, signature: str | None) -> None:
    """Let the balancer give this cdx to whoever calls."""

    def change(told: Told) -> None:
        if told.path == "/auth":
            told.put(versions=told.data["versions"] | {"wrapper_version": version, "wrapper_sha256": sha(body)})
        elif told.path == "/wrapper/download":
            told.body = body
            told.headers = {HEADER: signature} if signature is not None else {}

    balancer.change = change


def keeps_its_cdx(machine: Machine, says: str) -> None:
    """A run keeps cdx, says why, and works with the login; an update that is asked for fails."""
    before = machine.cdx.read_bytes()
    done = machine.run_cdx("exec", "hi", CODEX_EXIT="3")
    assert (done.returncode, done.stdout) == (3, "ran with: exec hi\n")
    assert says in done.stderr
    is_refused(machine, says)
    assert machine.cdx.read_bytes() == before


def is_refused(machine: Machine, says: str) -> None:
    """An update that is asked for fails, and changes nothing."""
    before = machine.cdx.read_bytes()
    asked = machine.run_cdx("--update")
    assert (asked.returncode, asked.stdout) == (1, "")
    assert says in asked.stderr
    assert machine.cdx.read_bytes() == before


def named(version: str, body: bytes) -> bytes:
    return body.replace(f'WRAPPER_VERSION="{baking.version()}"'.encode(), f'WRAPPER_VERSION="{version}"'.encode())


def signed_by(found: SigningKeys, name: str, version: str, body: bytes) -> str:
    return found.sign(signing.cdx_text(name, version, sha(body)))


def test_a_replaced_cdx_is_not_taken(balancer: Tampering, machine: Machine, tmp_path: Path) -> None:
    good, name = machine.cdx.read_bytes(), machine.env["NAME"]
    evil = named("99.0.0", good) + EVIL
    stranger = tmp_path / "stranger.json"
    signing.write(stranger, signing.Content().with_key(SigningKey.generated()))
    foreign = signed_by(SigningKeys(stranger), name, "99.0.0", evil)
    of_the_good = signed_by(keys(balancer), name, baking.version(), good)
    renamed = keys(balancer).content().ids[0] + ":" + foreign.partition(":")[2]
    for signature in (None, of_the_good, foreign, renamed):
        serves(balancer, evil, "99.0.0", signature)
        is_refused(machine, "cdx 99.0.0 from the server is not signed by a key that this cdx knows")
    keeps_its_cdx(machine, "cdx 99.0.0 from the server is not signed by a key that this cdx knows")
    # Nor as another build of the same version.
    serves(balancer, good + EVIL, baking.version(), of_the_good)
    keeps_its_cdx(machine, "is not signed by a key that this cdx knows")


def test_a_cdx_that_was_signed_for_another_host_is_not_taken(balancer: Tampering, machine: Machine) -> None:
    key = balancer.fleet.key("other.example.net")
    with balancer.fleet.client(key) as client:
        answer = client.call("GET", "/wrapper/download")
    assert signed_by(keys(balancer), "other.example.net", baking.version(), answer.content) == answer.headers[HEADER]
    serves(balancer, answer.content, baking.version(), answer.headers[HEADER])
    is_refused(machine, "is not signed by a key that this cdx knows")


def test_a_signed_cdx_is_taken_and_an_older_one_only_when_asked_for(balancer: Tampering, machine: Machine) -> None:
    good, name = machine.cdx.read_bytes(), machine.env["NAME"]
    newer, older = named("98.0.0", good), named("0.0.1", good)
    serves(balancer, newer, "98.0.0", signed_by(keys(balancer), name, "98.0.0", newer))
    assert "cdx is updated to 98.0.0" in machine.run_cdx("exec").stderr
    assert machine.cdx.read_bytes() == newer
    # The version is part of what is signed: an old one does not pass for a new one.
    old = signed_by(keys(balancer), name, "0.0.1", older)
    serves(balancer, older, "99.0.0", old)
    is_refused(machine, "is not signed by a key that this cdx knows")
    serves(balancer, older, "0.0.1", old)
    assert machine.run_cdx("exec").stderr == ""
    assert machine.cdx.read_bytes() == newer
    asked = machine.run_cdx("--update")
    assert asked.returncode == 0
    assert "cdx 0.0.1 is older than this one, 98.0.0; it is installed because you ask for it" in asked.stderr
    assert machine.cdx.read_bytes() == older


def test_a_cdx_from_before_signatures_gets_the_keys_with_an_update(balancer: Tampering, machine: Machine) -> None:
    good = machine.cdx.read_bytes()
    public = keys(balancer).public.encode()
    assert public in good
    machine.cdx.write_bytes(good.replace(public, b""))
    assert "it has no signing key" in machine.run_cdx("--doctor").stdout
    assert "cdx is updated to" in machine.run_cdx("exec").stderr
    assert machine.cdx.read_bytes() == good
    found = machine.run_cdx("--doctor").stdout
    assert f"taken only when key {keys(balancer).content().ids[0]} has signed them" in found


def test_keys_are_changed_without_touching_a_host(balancer: Tampering, machine: Machine) -> None:
    first = machine.cdx.read_bytes()
    (old,) = keys(balancer).content().ids
    new = json.loads(balancer.fleet.cli("--json", "keys", "signing", "rotate").stdout)["id"]
    assert "cdx is updated to" in machine.run_cdx("exec").stderr
    both = machine.cdx.read_bytes()
    signature = signed_by(keys(balancer), machine.env["NAME"], baking.version(), both)
    assert [part.partition(":")[0] for part in signature.split(",")] == [old, new]
    balancer.fleet.cli("keys", "signing", "retire", old, "--yes")
    assert "cdx is updated to" in machine.run_cdx("exec").stderr
    last = machine.cdx.read_bytes()
    assert keys(balancer).public.encode() in last
    assert keys(balancer).content().ids == [new]
    assert machine.run_cdx("exec").stderr == ""
    # Whoever kept the builds of before, and has the old key, brings neither back.
    serves(balancer, both, baking.version(), signature)
    keeps_its_cdx(machine, "has older signing keys than this one")
    serves(balancer, first, baking.version(), signature.partition(",")[0])
    is_refused(machine, "is not signed by a key that this cdx knows")
    assert machine.cdx.read_bytes() == last


# --- prompts


def store(balancer: Tampering, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "text").write_text(text)
    balancer.fleet.cli("prompts", "store", str(tmp_path / "text"), "--name", name)


def trouble(machine: Machine) -> str:
    """What a sync says, which however long it takes gets all prompts, but for its success."""
    done = machine.run_cdx("--wrapper-sync")
    assert done.returncode == 0, done.stderr
    return "".join(line for line in done.stderr.splitlines() if "is in sync with the server" not in line)


def folder(machine: Machine) -> dict[str, str]:
    return {path.name: path.read_text() for path in (machine.home / ".codex" / "prompts").iterdir()}


def adds(told: Told) -> None:
    if told.path == "/slash-commands" and told.status == 200:
        evil = told.data["commands"][0] | {"filename": "evil.md", "sha256": sha(b"evil")}
        told.put(commands=[*told.data["commands"], evil])
    elif told.path == "/slash-commands/retrieve":
        told.put(status="updated", filename="evil.md", prompt="evil", sha256=sha(b"evil"))


def removes(told: Told) -> None:
    if told.path == "/slash-commands" and told.status == 200:
        told.put(commands=[])


def swaps(told: Told) -> None:
    if told.path == "/slash-commands" and told.status == 200:
        one, two = told.data["commands"]
        told.put(commands=[one | {"filename": two["filename"]}, two | {"filename": one["filename"]}])


def strips(told: Told) -> None:
    if told.path == "/slash-commands" and told.status == 200:
        data = {"commands": told.data["commands"]}
        told.body = json.dumps({"status": "ok", "data": data}).encode()


def claims_no_change(told: Told) -> None:
    if told.path == "/slash-commands":
        told.status, told.body = 304, b""


def claims_a_later_sequence(told: Told) -> None:
    if told.path == "/slash-commands" and told.status == 200:
        told.put(sequence=told.data["sequence"] + 1)


@pytest.mark.parametrize("change", [adds, removes, swaps, strips, claims_a_later_sequence])
def test_a_list_of_prompts_that_was_changed_on_its_way_is_not_taken(
    balancer: Tampering, machine: Machine, tmp_path: Path, change: Callable[[Told], None]
) -> None:
    for name in ("a.md", "b.md"):
        store(balancer, tmp_path, name, f"{name} of {change.__name__}")
    assert trouble(machine) == ""
    before = folder(machine)
    assert before == {name: f"{name} of {change.__name__}" for name in ("a.md", "b.md")}
    store(balancer, tmp_path, "a.md", "changed")
    balancer.change = change
    done = machine.run_cdx("exec", "hi")
    assert (done.returncode, done.stdout) == (0, "ran with: exec hi\n")
    assert (
        "the server's prompts are not signed by a key that this cdx knows; those here stay as they are" in done.stderr
    )
    assert folder(machine) == before
    assert "the server's prompts are not signed" in trouble(machine)
    assert folder(machine) == before
    balancer.change = lambda told: None
    assert trouble(machine) == ""
    assert folder(machine) == before | {"a.md": "changed"}


def test_a_text_that_was_changed_on_its_way_is_not_taken(balancer: Tampering, machine: Machine, tmp_path: Path) -> None:
    store(balancer, tmp_path, "text.md", "before")
    assert trouble(machine) == ""
    store(balancer, tmp_path, "text.md", "good")

    def change(told: Told) -> None:
        if told.path == "/slash-commands/retrieve":
            told.put(prompt="evil", sha256=sha(b"evil"))

    balancer.change = change
    assert trouble(machine) == ""
    assert folder(machine)["text.md"] == "before"
    balancer.change = lambda told: None
    assert trouble(machine) == ""
    assert folder(machine)["text.md"] == "good"


def test_an_old_list_is_not_taken_again(balancer: Tampering, machine: Machine, tmp_path: Path) -> None:
    store(balancer, tmp_path, "bad.md", "a mistake")
    lists: list[Told] = []

    def keeps(told: Told) -> None:
        if told.path == "/slash-commands" and told.status == 200:
            lists.append(told)

    balancer.change = keeps
    assert trouble(machine) == ""
    assert "bad.md" in folder(machine)
    balancer.fleet.cli("prompts", "delete", "bad.md", "--yes")
    assert trouble(machine) == ""
    assert "bad.md" not in folder(machine)

    def replays(told: Told) -> None:
        if told.path == "/slash-commands":
            told.status, told.body = 200, lists[0].body

    balancer.change = replays
    assert "are older than those that this host had" in trouble(machine)
    assert "bad.md" not in folder(machine)


def test_a_list_from_before_signatures_is_asked_for_again(
    balancer: Tampering, machine: Machine, tmp_path: Path
) -> None:
    store(balancer, tmp_path, "kept.md", "kept")
    assert trouble(machine) == ""
    notes = machine.home / ".codex" / ".cdx" / "prompts.json"
    known = json.loads(notes.read_text())
    sequence = known.pop("sequence")
    known["server"]["kept.md"] = sha(b"evil")
    notes.write_text(json.dumps(known))
    balancer.change = claims_no_change
    assert "was not asked; prompts stay as they are" in trouble(machine)
    balancer.change = lambda told: None
    assert trouble(machine) == ""
    assert machine.note("prompts.json")["sequence"] == sequence
    assert folder(machine)["kept.md"] == "kept"
