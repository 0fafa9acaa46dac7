"""`llmstack web-search` by its words: what it writes, what it shows, where it refuses."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from llmstack.cli.main import run

KEY = "key-0123456789abcdef"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path))
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = run(["web-search", *words])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def pipe(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_a_searxng_is_one_address(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    status, out, _ = call(capsys, "use", "searxng", "http://127.0.0.1:8888/search", "--json")
    setup = json.loads(out)
    assert status == 0 and (setup["search"], setup["base_url"]) == ("searxng", "http://127.0.0.1:8888")
    assert (setup["key"], setup["fetch"]) == ("none", False)
    _, out, _ = call(capsys, "show")
    assert "http://127.0.0.1:8888" in out and "web-search test" in out
    assert (root / "config" / "web.json").stat().st_mode & 0o777 == 0o600


def test_a_key_is_stored_for_its_owner_alone_and_never_shown(
    capsys: pytest.CaptureFixture[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(monkeypatch, KEY + "\n")
    status, out, err = call(capsys, "use", "brave", "--key-stdin")
    file = root / "config" / "keys" / "web-search.brave"
    assert status == 0 and file.read_text() == KEY + "\n" and file.stat().st_mode & 0o777 == 0o600
    _, shown, _ = call(capsys, "show", "--json")
    assert KEY not in out + err + shown + (root / "config" / "web.json").read_text()
    assert json.loads(shown)["key"] == "key"
    file.chmod(0o644)
    assert json.loads(call(capsys, "show", "--json")[1])["key"] == "open"
    file.unlink()
    assert json.loads(call(capsys, "show", "--json")[1])["key"] == "no key"


def test_another_back_end_is_never_left_with_a_key_of_the_one_before(
    capsys: pytest.CaptureFixture[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for service in ("brave", "tavily"):
        pipe(monkeypatch, f"{service}-key\n")
        assert call(capsys, "use", service, "--key-stdin")[0] == 0
    keys = root / "config" / "keys"
    assert [(file.name, file.read_text()) for file in keys.iterdir()] == [("web-search.tavily", "tavily-key\n")]
    assert call(capsys, "use", "tavily", "--key-env", "TAVILY_KEY")[0] == 0
    setup = json.loads(call(capsys, "show", "--json")[1])
    assert list(keys.iterdir()) == [] and (setup["key"], setup["key_env"]) == ("variable", "TAVILY_KEY")


def test_off_ends_searches_and_deletes_the_key_whatever_was_there(
    capsys: pytest.CaptureFixture[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(capsys, "off")[0] == 0
    pipe(monkeypatch, KEY + "\n")
    call(capsys, "use", "brave", "--key-stdin")
    call(capsys, "fetch", "on")
    status, out, _ = call(capsys, "off", "--json")
    assert status == 0 and json.loads(out)["search"] is None and json.loads(out)["fetch"] is True
    assert list((root / "config" / "keys").iterdir()) == []
    (root / "config" / "web.json").write_text("nonsense")
    assert call(capsys, "show")[0] == 2
    assert call(capsys, "off")[0] == 0 and call(capsys, "show")[0] == 0


def test_a_command_is_found_now_and_kept_word_for_word(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "use", "command", "--json", "--", "sh", "-c", "echo $0", "--")
    words = json.loads(out)["command"]
    assert status == 0 and Path(words[0]).is_absolute() and words[1:] == ["-c", "echo $0", "--"]


@pytest.mark.parametrize(
    ("words", "piped", "says"),
    [
        (("use", "searxng"), "", "no terminal"),
        (("use", "searxng", "ftp://x"), "", "no address"),
        (("use", "searxng", "http://user:word@x"), "", "neither password"),
        (("use", "searxng", "http://x", "http://y"), "", "one address"),
        (("use", "searxng", "http://x", "--key-stdin"), "k\n", "takes no key"),
        (("use", "brave"), "", "no terminal"),
        (("use", "brave", "more"), "", "no further words"),
        (("use", "brave", "--key-stdin"), "\n", "one line without spaces"),
        (("use", "brave", "--key-stdin", "--key-env", "A"), "k\n", "one place"),
        (("use", "brave", "--key-env", "sk-0123-4567"), "", "name of a variable"),
        (("use", "command"), "", "no command"),
        (("use", "command", "--", "no-such-program-here"), "", "no program"),
        (("use", "nobody"), "", "searxng"),
        (("test", ""), "", "web-search use"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    piped: str,
    says: str,
) -> None:
    pipe(monkeypatch, piped)
    status, _, err = call(capsys, *words)
    assert status in (1, 2) and says in err and "word@" not in err and "0123" not in err
    assert not (root / "config").exists()
