"""The names of Cheroot's inside that the server relies on exist in the installed version, and are listed completely."""

import ast
import errno
import importlib.metadata
import inspect
import pkgutil
from collections.abc import Iterator
from types import CodeType, ModuleType

import cheroot.errors
import pytest
from cheroot.server import HTTPConnection
from cheroot.workers import threadpool
from packaging.requirements import Requirement

import cdxsync.server
from cdxsync.server import cheroot_internals
from cdxsync.server.cheroot_internals import RELIED_ON

NAMES = [(owner, name) for owner, names in RELIED_ON.items() for name in names]


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(cdxsync.server.__path__, "cdxsync.server."):
        yield pkgutil.resolve_name(found.name)


def own_classes() -> Iterator[type]:
    for module in modules():
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if cls.__module__ == module.__name__:
                yield cls


def cheroot_bases(cls: type) -> list[type]:
    return [base for base in cls.__mro__ if base.__module__.startswith("cheroot.")]


def used_attributes(source: str) -> set[str]:
    return {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}


def sets(owner: type) -> set[str]:
    """The attributes that methods of a class set or use on anything, as compiled code lists them."""
    names: set[str] = set()
    for cls in owner.__mro__:
        for value in vars(cls).values():
            code = getattr(value, "__code__", None)
            if isinstance(code, CodeType):
                names.update(code.co_names)
    return names


@pytest.mark.parametrize(("owner", "name"), NAMES, ids=[f"{owner.__name__}.{name}" for owner, name in NAMES])
def test_a_name_relied_on_is_in_the_installed_cheroot(owner: type, name: str) -> None:
    assert hasattr(owner, name) or name in sets(owner)


def test_every_override_of_cheroot_is_listed() -> None:
    for cls in own_classes():
        bases = cheroot_bases(cls)
        listed = {name for base in bases for name in RELIED_ON.get(base, {})}
        overrides = {name for base in bases for name in vars(cls).keys() & vars(base).keys()}
        overrides = {name for name in overrides if not name.startswith("__") and name != "_abc_impl"}
        assert overrides <= listed, cls


def test_every_private_name_that_is_used_is_listed() -> None:
    used = used_attributes(inspect.getsource(cheroot_internals))
    private = {name for name in used if name.startswith("_") and not name.startswith("__")}
    listed = {name for _, name in NAMES} | {"_ThreadsafeSelector", "_SHUTDOWNREQUEST"}
    assert private <= listed
    assert hasattr(threadpool, "_SHUTDOWNREQUEST")


def test_no_other_module_of_the_server_touches_cheroot() -> None:
    for module in modules():
        if module is cheroot_internals:
            continue
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            imported = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            imported += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in imported if name.partition(".")[0] in ("cheroot", "_pyio")], module


def test_no_other_class_uses_a_private_name_of_cheroot() -> None:
    private = {name for _, name in NAMES if name.startswith("_")}
    for cls in own_classes():
        if cls.__module__ != cheroot_internals.__name__ and cheroot_bases(cls):
            assert not used_attributes(inspect.getsource(cls)) & private, cls


def test_errors_are_told_apart_as_the_server_expects() -> None:
    constants = HTTPConnection.communicate.__code__.co_consts
    assert any(cheroot_internals.READ_TIMED_OUT in item for item in constants if isinstance(item, tuple))
    assert errno.ECONNRESET in cheroot.errors.socket_errors_to_ignore


def test_only_versions_that_were_tested_are_admitted() -> None:
    """`pip install cdxsync` must not bring a version whose inside is another."""
    requirements = [Requirement(line) for line in importlib.metadata.requires("cdxsync") or []]
    [required] = [one for one in requirements if one.name == "cheroot"]
    assert importlib.metadata.version("cheroot") in required.specifier
    assert not required.specifier.contains("11.2.0")
    assert not required.specifier.contains("12.0.0")
