"""Rules that all Structs of answers and bodies keep."""

import importlib
import pkgutil
from collections.abc import Iterator

import msgspec
import pytest

import cdxsync
from cdxsync.base.errors import Invalid
from cdxsync.base.fields import Fields
from cdxsync.base.schema import Secret
from cdxsync.hosts.schemas import HostRegistered, Installer, PermitBody, Registered

SECRETS = {"api_key", "auth", "token"}
"""Members that hold a secret; so does an installer's `command`, which is a free text."""


def structs() -> Iterator[type[msgspec.Struct]]:
    for module in pkgutil.walk_packages(cdxsync.__path__, "cdxsync."):
        if module.name.endswith("schemas"):
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == module.name:
                    yield value


@pytest.mark.parametrize("struct", list(structs()), ids=lambda struct: struct.__name__)
def test_each_says_what_it_is_and_hides_its_secrets(struct: type[msgspec.Struct]) -> None:
    assert struct.__doc__
    assert struct.__struct_config__.frozen or struct.__name__ == "Checked"  # which is filled while it looks
    fields = msgspec.structs.fields(struct)
    if any(field.name in SECRETS or (field.name == "command" and field.type is str) for field in fields):
        assert issubclass(struct, Secret)


def test_a_key_is_in_no_text_of_a_registration() -> None:
    host = HostRegistered(
        fqdn="h.example.net",
        status="active",
        last_refresh=None,
        updated_at="2026-01-01T00:00:00+00:00",
        client_version=None,
        wrapper_version=None,
        api_calls=0,
        allow_roaming_ips=False,
        id=1,
        api_key="cdx_secret",
    )
    installer = Installer(token="secret", url="secret", command="secret", expires_at="2026-01-01T00:00:00+00:00")
    made = Registered(host=host, installer=installer)
    assert "secret" not in f"{made!r} {made} {host!r} {installer!r}"
    assert b"cdx_secret" in msgspec.json.encode(made)


def test_a_body_tells_all_that_is_wrong_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        PermitBody.read({"store_auth": "perhaps", "store_prompts": []})
    assert caught.value.errors.keys() == {"store_auth", "store_prompts"}
    fields = Fields({"a": "1", "b": "x", "c": "y"})
    assert [fields.read(name, int, 0) for name in "abc"] == [1, 0, 0]
    with pytest.raises(Invalid) as caught:
        fields.check()
    assert caught.value.errors.keys() == {"b", "c"}
