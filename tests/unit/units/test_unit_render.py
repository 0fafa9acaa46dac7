"""What a unit says, and which units count as ours, changed or edited."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack.errors import BadInput
from llmstack.supervisor import Service
from llmstack.units import ChangeKind, Tier, UnitOrigin, UnitSettings, diff, mark, origin, render, unit_name
from llmstack.units.parse import ParsedUnit, parse, words
from llmstack.units.render import sandbox
from support import paths

TEMPLATES = {p.name: p.read_text() for p in paths.TEMPLATES.glob("*.service.j2")}
ALWAYS = {
    "NoNewPrivileges": "yes",
    "LockPersonality": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "UMask": "0077",
    "LimitCORE": "0",
    "LimitNOFILE": "8192",
    "KeyringMode": "private",
    "OOMPolicy": "stop",
    "Restart": "always",
}


def rendered(service: Service, **settings: object) -> ParsedUnit:
    return parse(render(service, UnitSettings(**settings), TEMPLATES))  # type: ignore[arg-type]


def server(**more: object) -> Service:
    return Service("server", "llama-server", ("/usr/bin/llama-server", "-c", "4096"), **more)  # type: ignore[arg-type]


def proxy(**more: object) -> Service:
    return Service("proxy", "proxy", ("/usr/bin/llmstack", "serve-proxy"), notify=True, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("tier", list(Tier))
@pytest.mark.parametrize("service", [server(), proxy()], ids=["server", "proxy"])
def test_every_unit_has_the_settings_that_hold_in_both_tiers(service: Service, tier: Tier) -> None:
    unit = rendered(service, tier=tier)
    assert {key: unit.value(key) for key in ALWAYS} == ALWAYS
    assert unit.value("StartLimitBurst", "Unit") == "8"
    assert unit.value("WantedBy", "Install") == "default.target"
    assert unit.argv == service.argv


@pytest.mark.parametrize("tier", list(Tier))
def test_the_server_keeps_its_gpu_and_its_compiled_kernels(tier: Tier) -> None:
    unit = rendered(server(), tier=tier, cache="/home/me/.cache/llmstack")
    for forbidden in ("PrivateDevices", "MemoryDenyWriteExecute", "ProtectClock", "DevicePolicy"):
        assert unit.value(forbidden) is None
    assert unit.environment["CUDA_CACHE_PATH"] == "/home/me/.cache/llmstack/cuda"


def test_only_the_full_tier_needs_user_namespaces() -> None:
    assert rendered(server(), tier=Tier.BASIC).value("ProtectSystem") is None
    assert rendered(server(), tier=Tier.FULL).value("ProtectSystem") == "strict"
    assert "PrivateDevices=yes" in sandbox(TEMPLATES)
    assert not any(setting.startswith("NoNewPrivileges") for setting in sandbox(TEMPLATES))


def test_the_server_sees_no_key_that_it_does_not_need_and_writes_its_cache_only() -> None:
    secrets = ("/home/me/.local/state/llmstack/token", "/home/me/.config/llmstack/keys")
    folders = {"writable": ("/home/me/.local/state/llmstack", "/home/me/cache"), "cache": "/home/me/cache"}
    full = {"tier": Tier.FULL, "person": "/home/me", "secrets": secrets, **folders}
    hidden = words(rendered(server(), **full).value("InaccessiblePaths") or "")
    assert {f"-{secret}" for secret in secrets} | {"-/home/me/.ssh", "-/home/me/.aws", "-/home/me/.netrc"} <= set(
        hidden
    )
    assert rendered(server(), **full).value("ReadWritePaths") == "/home/me/cache"
    beside = Service("server", "s", ("/usr/bin/llama-server", "-m", "/home/me/.claude/models/a.gguf"))
    assert "-/home/me/.claude" not in words(rendered(beside, **full).value("InaccessiblePaths") or "")
    assert rendered(proxy(), **full).value("InaccessiblePaths") is None, "it needs the keys"
    assert rendered(server(), tier=Tier.BASIC, person="/home/me").value("InaccessiblePaths") is None
    filters = " ".join(rendered(server()).values("SystemCallFilter"))
    assert "@debug" in filters and "process_vm_readv" in filters, "in both tiers"


def test_private_tmp_is_left_out_where_it_would_hide_something_we_need() -> None:
    assert rendered(server(), tier=Tier.FULL).value("PrivateTmp") == "yes"
    below_tmp = Service("server", "s", ("/usr/bin/llama-server", "-m", "/tmp/model.gguf"))
    assert rendered(below_tmp, tier=Tier.FULL).value("PrivateTmp") is None
    assert rendered(server(), tier=Tier.FULL, writable=("/var/tmp/stack",)).value("PrivateTmp") is None


def test_the_proxy_speaks_notify_and_comes_after_the_server_without_needing_it() -> None:
    unit = rendered(proxy(), suffix="-abc")
    assert (unit.value("Type"), unit.value("WatchdogSec")) == ("notify", "60")
    assert unit.value("After", "Unit") == "llmstack-server-abc.service"
    assert unit.values("Requires") == unit.values("Wants") == unit.values("BindsTo") == ()


def test_a_memory_limit_comes_with_a_softer_one_below() -> None:
    unit = rendered(server(memory_max_mib=20000))
    assert (unit.value("MemoryMax"), unit.value("MemoryHigh")) == ("20000M", "19000M")
    assert rendered(server()).value("MemoryMax") is None
    with pytest.raises(BadInput):
        rendered(server(memory_max_mib=0))


def test_without_a_journal_output_goes_to_a_file() -> None:
    assert rendered(server(), log_folder="/s/logs 100%").value("StandardOutput") == "append:/s/logs 100%%/server.log"
    assert rendered(server()).value("StandardOutput") is None


def test_a_unit_says_how_to_change_it() -> None:
    text = render(server(), UnitSettings(suffix="-ab"), TEMPLATES)
    assert "systemctl --user edit llmstack-server-ab" in text.splitlines()[0]


@given(text=st.text())
def test_a_marked_text_is_ours_until_a_character_changes(text: str) -> None:
    marked = mark(text)
    assert origin(marked) is UnitOrigin.OURS
    assert origin("# note\n" + marked) is UnitOrigin.EDITED
    assert origin(marked + "\n[Service]\n") is UnitOrigin.EDITED


def test_a_text_without_a_mark_is_foreign() -> None:
    assert origin("[Service]\nExecStart=/bin/true\n") is UnitOrigin.FOREIGN
    assert origin("") is UnitOrigin.FOREIGN


def test_the_difference_names_what_happens_to_each_unit() -> None:
    old, new = mark("[Service]\nA=1\n"), mark("[Service]\nA=2\n")
    edited, foreign = old.replace("A=1", "A=3"), "[Service]\n"
    desired = {"added": new, "same": new, "changed": new, "kept": new, "foreign": new}
    installed = {"same": new, "changed": old, "kept": edited, "foreign": foreign, "removed": old}
    kinds = {change.unit: change.kind.value for change in diff(desired, installed).changes}
    assert kinds == {name: name for name in kinds}
    assert len(kinds) == 6
    forced = {change.unit: change.kind for change in diff(desired, installed, force=True).changes}
    assert forced["kept"] is ChangeKind.CHANGED
    assert forced["foreign"] is ChangeKind.FOREIGN
    assert diff({"a": new}, {"a": new}).empty
    changed = next(c for c in diff(desired, installed).changes if c.unit == "changed")
    assert "-A=1" in changed.lines and "+A=2" in changed.lines


def test_unit_names_carry_the_suffix_of_their_home() -> None:
    assert unit_name("server") == "llmstack-server.service"
    assert unit_name("proxy", "-1a2b3c4d") == "llmstack-proxy-1a2b3c4d.service"
