"""What systemd-analyze says of our units, as documented: its scores, and why each setting is left out."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from llmstack.supervisor import Service
from llmstack.systemd.supervisor import templates
from llmstack.units import Tier, UnitSettings, render
from llmstack.units.render import sandbox
from support import user_manager
from support.paths import DOCS

PAGE = (DOCS / "services.md").read_text()
SCORES = {
    (name, tier): float(score)
    for name, *scores in re.findall(r"^\| (server|proxy) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    for tier, score in zip(Tier, scores, strict=True)
}
_ROW = re.compile(r"^\| (`[^|]+`) \| (both|server|proxy) \| [^|]+ \|$", re.MULTILINE)
LEFT_OUT = {
    (service, name)
    for names, of in _ROW.findall(PAGE)
    for name in re.findall(r"`(\w+)=", names)
    for service in (("server", "proxy") if of == "both" else (of,))
}
# By systemd-analyze's names, and by what a person writes into a unit.
_CALLED = {"UserOrDynamicUser": "DynamicUser", "RootDirectoryOrRootImage": "RootDirectory"}


@pytest.fixture(scope="module")
def analyze(tmp_path_factory: pytest.TempPathFactory) -> Any:
    user_manager.install()
    folder = tmp_path_factory.mktemp("units")

    def run(name: str, tier: Tier, *options: str) -> str:
        service = Service(name, name, ("/usr/bin/true",), memory_max_mib=4096, notify=name == "proxy")
        settings = UnitSettings(
            tier=tier, writable=("/home/me/w",), cache="/home/me/c", person="/home/me", secrets=("/home/me/token",)
        )
        file = folder / f"llmstack-{name}-{tier.value}.service"
        file.write_text(render(service, settings, templates()))
        done = subprocess.run(
            ["systemd-analyze", "--user", "security", "--offline=true", *options, str(file)],
            env={"XDG_RUNTIME_DIR": str(folder), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return done.stdout

    return run


def unset(analyze: Any, name: str, tier: Tier) -> set[str]:
    checks = json.loads(analyze(name, tier, "--json=short"))
    names = {check["json_field"].partition("_")[0] for check in checks if not check["set"] and check["exposure"]}
    return {_CALLED.get(name, name) for name in names}


@pytest.mark.parametrize("tier", list(Tier))
@pytest.mark.parametrize("name", ["server", "proxy"])
def test_the_scores_are_those_of_the_page(analyze: Any, name: str, tier: Tier) -> None:
    match = re.search(r"Overall exposure level for \S+: ([\d.]+)", analyze(name, tier, "--no-pager"))
    assert match is not None and float(match[1]) == SCORES[name, tier]


@pytest.mark.parametrize("name", ["server", "proxy"])
def test_each_setting_that_is_left_out_has_its_reason_on_the_page(analyze: Any, name: str) -> None:
    documented = {setting for service, setting in LEFT_OUT if service == name}
    left_out = unset(analyze, name, Tier.FULL)
    assert left_out - documented == set(), "without a reason"
    assert documented - left_out == set(), "it is set after all"
    added = {setting.partition("=")[0] for setting in sandbox(templates())} | {"DeviceAllow", "CapabilityBoundingSet"}
    assert unset(analyze, name, Tier.BASIC) - left_out <= added
