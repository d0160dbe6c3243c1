"""`python -m benchmarks [NAME…] [--full] [--json FILE]`: run the cases and print a table."""

import argparse
import importlib
import json
import os
import pkgutil
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.table import Table

import benchmarks


def cases() -> dict[str, ModuleType]:
    """The case modules by name, in alphabetical order."""
    names = sorted(found.name for found in pkgutil.iter_modules(benchmarks.__path__) if not found.name.startswith("_"))
    return {name: importlib.import_module(f"benchmarks.{name}") for name in names}


def _subject(module: ModuleType) -> str:
    return (module.__doc__ or "").partition("\n")[0]


def _table(results: list[dict[str, Any]]) -> Table:
    table = Table("Case", "Measured", box=None)
    for heading in ("Value", "Unit", "Ratio"):
        table.add_column(heading, justify="left" if heading == "Unit" else "right")
    for row in results:
        table.add_row(row["case"], row["name"], f"{row['value']:.4g}", row["unit"], f"{row['ratio']:.2f}")
    return table


def main() -> None:
    """Run what the command line asks for."""
    known = cases()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure cdxsync.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="cases to run; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--full", action="store_true", help="measure the large sizes too; takes half an hour")
    parser.add_argument("--list", action="store_true", help="list the cases and end")
    given = parser.parse_args()
    if unknown := set(given.names) - set(known):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    if given.list:
        for name, module in known.items():
            print(f"{name}\t{_subject(module)}")
        return
    benchmarks.full = given.full
    results: list[dict[str, Any]] = []
    for name in given.names or known:
        print(f"{name}: {_subject(known[name])}", file=sys.stderr, flush=True)
        try:
            results += [{"case": name} | row for row in known[name].run()]
        except benchmarks.Missing as missing:
            print(f"{name}: left out: {missing}", file=sys.stderr, flush=True)
    Console().print(_table(results))
    if given.json:
        machine = {"python": platform.python_version(), "machine": platform.machine(), "processors": os.cpu_count()}
        given.json.write_text(json.dumps(machine | {"results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
