"""A lasting setting in an agent's own files: merged, and undone to the byte."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path

import pytest
import yaml

from llmstack.errors import BadInput, NotSo
from llmstack.launch.agents import PointFacts
from llmstack.launch.jsonc import parse
from llmstack.launch.lasting import LASTING, LastingFile, TokenSource
from llmstack.launch.written import files_written, undo, undo_all, write
from llmstack.paths import Home

TOKEN = TokenSource(Path("/state/token"), ("llmstack", "token"))
STACK = PointFacts("http://127.0.0.1:5000", "sk-secret", "my model", 65536, 8192, Path("/state/launch/x"))
NEWER = PointFacts("http://127.0.0.1:6000", "sk-secret", "another", 65536, 8192, Path("/state/launch/x"))
OPENCODE = '{\n  // mine\n  "theme": "dark",\n  "model": "their/model",\n}\n'
CODEX = """# mine
model = "gpt-6"  # the best
approval_policy = "never"

[model_providers.other]
name = "other"   # stays
"""
CONTINUE = """name: Mine
version: 1.0.0
schema: v1
# the models
models:
  # the first
  - name: theirs
    provider: openai
    model: gpt-6   # stays
rules:
  - be brief
"""
PI = '{"providers": {"other": {"baseUrl": "http://x"}}}'
QWEN = '{\n    "model": {"name": "theirs"},\n    "ui": {"theme": "x"}\n}'
THEIRS = {
    ".config/opencode/opencode.json": OPENCODE,
    ".codex/config.toml": CODEX,
    ".continue/config.yaml": CONTINUE,
    ".pi/agent/models.json": PI,
    ".qwen/settings.json": QWEN,
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "c", tmp_path / "s", tmp_path / "d", tmp_path / "k")


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """Of somebody who has settings for each of them."""
    folder = tmp_path / "account"
    for name, text in THEIRS.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)
    return folder


def files(name: str, account: Path, stack: PointFacts = STACK) -> tuple[LastingFile, ...]:
    return LASTING[name](stack, TOKEN, {"HOME": str(account)})


def everything(account: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(account)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in sorted(account.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", LASTING)
def test_a_setting_is_merged_and_undone_to_the_byte(home: Home, account: Path, name: str) -> None:
    before = everything(account)
    assert all(one.changed for one in write(home, name, files(name, account)))
    assert not any(one.changed for one in write(home, name, files(name, account)))
    assert all(one.changed for one in write(home, name, files(name, account, NEWER)))
    changed = everything(account)
    assert changed != before
    for data, mode in changed.values():
        assert b"sk-secret" not in data or mode == 0o600
    assert ("sk-secret" in str(changed)) == (name in ("continue", "qwen"))
    assert "6000" in str(changed) and "5000" not in str(changed)
    assert all(one.whole for one in undo(home, name))
    assert everything(account) == before
    with pytest.raises(NotSo, match="written nothing"):
        undo(home, name)


@pytest.mark.parametrize("name", LASTING)
def test_files_that_were_not_there_are_gone_again(home: Home, tmp_path: Path, name: str) -> None:
    account = tmp_path / "empty"
    account.mkdir()
    written = write(home, name, files(name, account))
    assert {one.path for one in written} == set(files_written(home))
    assert all(stat.S_IMODE(one.path.stat().st_mode) == 0o600 for one in written)
    assert all(one.removed for one in undo_all(home))
    assert not everything(account)


@pytest.mark.parametrize("name", LASTING)
def test_what_was_added_since_stays_and_only_ours_goes(home: Home, account: Path, name: str) -> None:
    before = everything(account)
    write(home, name, files(name, account))
    path = files(name, account)[0].path
    text = path.read_text()
    added = text.rstrip() + "\n# theirs since\n"
    if path.suffix == ".json":
        end = text.rindex("}")
        added = text[:end].rstrip().rstrip(",") + ', "since": [1]' + text[end:]
    path.write_text(added)
    undone = {one.path: one for one in undo(home, name)}
    assert not undone[path].whole
    name_there = str(path.relative_to(account))
    if path.suffix == ".json":
        assert parse(path.read_text()) == {**parse(before[name_there][0].decode()), "since": [1]}
    else:
        assert path.read_bytes() == before[name_there][0].rstrip() + b"\n# theirs since\n"


def test_comments_and_order_stay_while_it_is_written(home: Home, account: Path) -> None:
    for name in LASTING:
        write(home, name, files(name, account))
    codex = (account / ".codex/config.toml").read_text()
    assert "# mine\n" in codex and "  # the best\n" in codex and 'name = "other"   # stays' in codex
    settings = tomllib.loads(codex)
    assert settings["model"] == "my model" and settings["approval_policy"] == "never"
    assert settings["model_providers"]["llmstack"]["auth"] == {"command": "llmstack", "args": ["token"]}
    text = (account / ".continue/config.yaml").read_text()
    assert "# the models\n" in text and "  # the first\n" in text and "gpt-6   # stays" in text
    models = yaml.safe_load(text)["models"]
    assert [model["name"] for model in models] == ["llmstack", "theirs"]
    opencode = (account / ".config/opencode/opencode.json").read_text()
    assert "  // mine\n" in opencode and parse(opencode)["model"] == "llmstack/my model"
    pi = json.loads((account / ".pi/agent/models.json").read_text())
    assert list(pi["providers"]) == ["llmstack", "other"] and pi["providers"]["llmstack"]["apiKey"] == "!llmstack token"


REFUSED = {
    ".codex/config.toml": (
        b"model = ", b'model = """\nx"""\n', b"model_providers = {a = {}}\n", b"[model_providers.llmstack]\n",
        b'a = """\n[x]\n"""\nmodel = "b"\n', b"\xff",
    ),
    ".continue/config.yaml": (b"models: []\n", b"- a\n", b"models: {a: 1}\n", b"a: [\n", b"models: &x\n  - a: 1\n"),
    ".config/opencode/opencode.json": (b"[]", b'{"provider": 1}', b'{"a": }', b"\xff"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "data"), [(file, data) for file, every in REFUSED.items() for data in every])
def test_what_cannot_be_changed_without_a_loss_is_refused_and_untouched(
    home: Home, account: Path, file: str, data: bytes
) -> None:
    (account / file).write_bytes(data)
    name = {".codex": "codex", ".contin": "continue", ".config": "opencode"}[file.split("/")[0][:7]]
    with pytest.raises(BadInput) as error:
        write(home, name, files(name, account))
    assert "left as it" in error.value.what and error.value.next
    assert (account / file).read_bytes() == data and not files_written(home)


def test_ours_that_was_changed_since_is_named_and_left(home: Home, account: Path) -> None:
    write(home, "codex", files("codex", account))
    path = account / ".codex/config.toml"
    path.write_text(path.read_text().replace("127.0.0.1:5000/v1", "127.0.0.1:7000/v1"))
    changed = path.read_bytes()
    with pytest.raises(NotSo, match=r"config\.toml") as error:
        undo(home, "codex")
    assert "by hand" in (error.value.next or "") and path.read_bytes() == changed
    with pytest.raises(NotSo, match="still in the settings"):
        undo_all(home)
    assert files_written(home) == (path,)


def test_a_link_stays_and_what_it_leads_to_is_written(home: Home, account: Path, tmp_path: Path) -> None:
    path, target = account / ".codex/config.toml", tmp_path / "dotfiles.toml"
    path.replace(target)
    path.symlink_to(target)
    write(home, "codex", files("codex", account))
    assert path.is_symlink() and "llmstack" in target.read_text()
    undo(home, "codex")
    assert target.read_text() == CODEX
