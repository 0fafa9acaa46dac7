"""Golden units: each file holds a plan's service, what must be true of its unit, and the whole text.

    PYTHONPATH=tests python tests/unit/units/test_unit_golden.py

writes the texts anew; the assertions of each file stay as they are.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from llmstack.supervisor import Service
from llmstack.units import Tier, UnitOrigin, UnitSettings, origin, render
from llmstack.units.parse import parse
from support import paths

FOLDER = Path(__file__).parent / "golden"
FILES = sorted(FOLDER.glob("*.toml"))
TEMPLATES = {p.name: p.read_text() for p in paths.TEMPLATES.glob("*.service.j2")}


def unit(case: dict[str, Any]) -> str:
    given, settings = dict(case["service"]), dict(case["settings"])
    given["argv"] = tuple(given["argv"])
    if "working_directory" in given:
        given["working_directory"] = Path(given["working_directory"])
    settings["tier"] = Tier(settings["tier"])
    for name in ("writable", "secrets"):
        settings[name] = tuple(settings.get(name, ()))
    return render(Service(**given), UnitSettings(**settings), TEMPLATES)


def test_there_are_at_least_ten_golden_plans() -> None:
    assert len(FILES) >= 10


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_a_plan_becomes_its_golden_unit(file: Path) -> None:
    case = tomllib.loads(file.read_text())
    text = unit(case)
    assert text == case["golden"]["unit"]
    assert origin(text) is UnitOrigin.OURS


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_a_golden_unit_holds_its_own_assertions(file: Path) -> None:
    case = tomllib.loads(file.read_text())
    asserts, parsed = case["asserts"], parse(case["golden"]["unit"])
    assert {key: parsed.value(key) for key in asserts["is"]} == asserts["is"]
    for key in asserts["absent"]:
        assert parsed.values(key) == (), key
        assert key not in parsed.environment
    assert parsed.argv == tuple(case["service"]["argv"])
    pairs = list(zip(parsed.argv, parsed.argv[1:], strict=False))
    for pair in asserts["holds"]:
        assert tuple(pair) in pairs, pair
    for name, value in asserts.get("environment", {}).items():
        assert parsed.environment[name] == value


def main() -> None:
    for file in FILES:
        text = file.read_text()
        given = text[: text.index("[golden]")]
        file.write_text(f"{given}[golden]\nunit = '''\n{unit(tomllib.loads(text))}'''\n")


if __name__ == "__main__":
    main()
