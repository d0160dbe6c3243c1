"""Files that are to begin first are there."""

from tests.support.order import LONGEST, TESTS


def test_long_files_are_there() -> None:
    assert [name for name in LONGEST if not (TESTS / name).is_file()] == []
