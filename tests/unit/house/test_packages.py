"""The package as a map: tables that name every module, and imports that never run in a circle."""

from __future__ import annotations

import ast
import re

import pytest

from support.sources import circles, modules, packages, tree

LARGE = 6  # modules; a larger package has a table
TABLED = {"deploy", "fetch", "llama_server", "plan", "protocol", "proxy", "warmstart"}
_FIRST_CELL = re.compile(r"^\| *([\w`, ]+?) *\|", re.MULTILINE)


def table(package: str) -> set[str]:
    """The modules that its docstring's table names: `| module | …`, `| one, two | …`."""
    docstring = ast.get_docstring(tree(modules()[package])) or ""
    return {name.strip("` ") for cell in _FIRST_CELL.findall(docstring) for name in cell.split(",")} - {"module"}


@pytest.mark.parametrize("package", packages())
def test_a_package_s_table_names_every_module(package: str) -> None:
    inner, named = set(packages()[package]), table(package)
    if named or len(inner) > LARGE or package.rpartition(".")[2] in TABLED:
        assert not inner - named, f"{package} has no row for {sorted(inner - named)}"
        assert not named - inner, f"{package} has a row for {sorted(named - inner)}, and no such module"


def test_no_import_runs_in_a_circle() -> None:
    rounds = [" <-> ".join(group) for group in circles()]
    assert not rounds, "\n".join(rounds)
