"""`catalog refresh`: models from an address of one's own, held against a digest, shown, and taken back."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llmstack.catalog.fetched import ChangeOfEntry
from llmstack.catalog.models import Model
from llmstack.cli.main import run
from llmstack.errors import BadInput, MissingPart, NotSo, StackError
from llmstack.fetch import read_catalog
from llmstack.fetch.catalog_in_use import state
from llmstack.fetch.catalog_source import go_back, refresh
from llmstack.paths import Home

DAY = "2999-01-0"


@dataclass
class Publisher:
    """texts: by path. redirects: path to address."""

    url: str = ""
    texts: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"{self.url}/models.toml"

    def publish(self, text: str, *, digest_of: str | None = None) -> str:
        self.texts["/models.toml"] = text.encode()
        digest = hashlib.sha256((digest_of or text).encode()).hexdigest()
        self.texts["/models.toml.sha256"] = f"{digest}  models.toml\n".encode()
        return digest


@contextmanager
def serving(publisher: Publisher) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path in publisher.redirects:
                self.send_response(302)
                self.send_header("Location", publisher.redirects[self.path])
                self.end_headers()
                return
            text = publisher.texts.get(self.path)
            self.send_response(200 if text is not None else 404)
            self.end_headers()
            self.wfile.write(text or b"")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    publisher.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture
def publisher(home: Home) -> Iterator[Publisher]:
    one = Publisher()
    with serving(one):
        yield one


def entry(name: str, *, day: str = f"{DAY}1", more: str = "") -> str:
    return f'[models."{name}"]\nrepo = "maker/tiny"\nfile = "{name}-Q4_K_M.gguf"\nchecked = "{day}"\n{more}'


def known(home: Home, name: str) -> Model:
    return read_catalog(home).models[name]


def test_new_models_are_known_once_their_digest_holds(home: Home, publisher: Publisher) -> None:
    digest = publisher.publish(entry("tiny"))
    done = refresh(home, publisher.address)
    assert [(one.name, one.change) for one in done.changes] == [("tiny", ChangeOfEntry.ADDED)]
    assert known(home, "tiny").file == "tiny-Q4_K_M.gguf"
    current = state(home).current
    assert current is not None and (current.sha256, current.newest) == (digest, f"{DAY}1")


def test_a_dry_run_shows_and_takes_nothing(
    home: Home, publisher: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher.publish(entry("tiny"))
    assert run(["catalog", "refresh", "--from", publisher.address, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "+ tiny" in shown and "nothing was taken" in shown
    assert "tiny" not in read_catalog(home).models and state(home).current is None


@pytest.mark.parametrize("pinned", [True, False])
def test_bytes_of_another_digest_are_refused_and_what_was_in_use_stays(
    home: Home, publisher: Publisher, pinned: bool
) -> None:
    publisher.publish(entry("tiny"))
    refresh(home, publisher.address)
    publisher.publish(entry("other"), digest_of="another text")
    with pytest.raises(NotSo, match="is not what it should be"):
        refresh(home, publisher.address, "0" * 64 if pinned else "")
    assert "tiny" in read_catalog(home).models and "other" not in read_catalog(home).models


def test_a_catalog_that_nothing_vouches_for_is_refused(home: Home, publisher: Publisher) -> None:
    digest = publisher.publish(entry("tiny"))
    del publisher.texts["/models.toml.sha256"]
    with pytest.raises(MissingPart, match="nothing says what") as refused:
        refresh(home, publisher.address)
    assert "--sha256 HEX" in refused.value.next
    assert refresh(home, publisher.address, digest.upper()).is_new


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[upstreams.x]\nbase_url = "https://evil.example"\n', "only models may come from elsewhere"),
        ('[[routes]]\nmatch = "*"\nto = "x"\n', "only models may come from elsewhere"),
        (f'[models.x]\nhandoff = "https://evil.example"\nchecked = "{DAY}1"\n', "would get the prompts"),
        (f'[models.x]\nurl = "http://a.example/x.gguf"\nchecked = "{DAY}1"\n', "needs https and a sha256"),
        ('[models.x]\nrepo = "a/b"\nfile = "x.gguf"\n', "lacks `checked`"),
        (entry("x", more='colour = "red"\n'), "unknown key models.x.colour"),
        (entry("../x"), "may hold letters"),
        ("models = 3\n", "must be a table"),
        ("", "has no models"),
        ("[models", "the fetched catalog"),
    ],
)
def test_what_is_no_list_of_models_is_refused_with_its_reason(
    home: Home, publisher: Publisher, text: str, words: str
) -> None:
    publisher.publish(text)
    with pytest.raises(BadInput) as refused:
        refresh(home, publisher.address)
    assert words in f"{refused.value.what} {refused.value.why}"
    assert state(home).current is None


def test_an_older_catalog_is_taken_only_where_that_is_asked_for(home: Home, publisher: Publisher) -> None:
    publisher.publish(entry("tiny", day=f"{DAY}2"))
    refresh(home, publisher.address)
    publisher.publish(entry("older", day=f"{DAY}1"))
    with pytest.raises(NotSo, match="is older than what is here") as refused:
        refresh(home, publisher.address)
    assert "--allow-older" in refused.value.next
    assert refresh(home, publisher.address, older=True).is_new


def test_of_two_entries_of_a_name_the_one_that_was_looked_up_last_holds_whole(home: Home, publisher: Publisher) -> None:
    name, shipped = next((name, model) for name, model in read_catalog(home).models.items() if model.checked)
    publisher.publish(entry(name, day="2000-01-01") + entry("tiny"))
    refresh(home, publisher.address)
    assert known(home, name) == shipped
    publisher.publish(entry(name, day=f"{DAY}3"))
    [*_, change] = refresh(home, publisher.address).changes[:1]
    assert change.change is ChangeOfEntry.CHANGED and "sampling" in " ".join(change.keys)
    assert known(home, name).shape == {} and known(home, name).file == f"{name}-Q4_K_M.gguf"


def test_the_user_s_own_entry_stays_over_a_fetched_one(home: Home, publisher: Publisher) -> None:
    publisher.publish(entry("tiny", more='summary = "theirs"\nlicense = "mit"\n'))
    refresh(home, publisher.address)
    home.catalog.parent.mkdir(parents=True, exist_ok=True)
    home.catalog.write_text('[models.tiny]\nsummary = "mine"\n')
    assert (known(home, "tiny").summary, known(home, "tiny").license) == ("mine", "mit")
    with pytest.raises(BadInput, match=r"models\.tiny lacks file"):  # it stands on the fetched entry alone
        go_back(home)
    assert known(home, "tiny").license == "mit"


def test_going_back_leads_to_the_one_before_and_at_last_to_the_shipped_one(
    home: Home, publisher: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("first", "second"), 1):
        publisher.publish(entry(name, day=f"{DAY}{number}"))
        refresh(home, publisher.address)
    assert "second" in read_catalog(home).models and "first" not in read_catalog(home).models
    assert run(["catalog", "back", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {row["name"]: row["change"] for row in data["changes"]} == {"first": "added", "second": "gone"}
    go_back(home)
    assert {"first", "second"}.isdisjoint(read_catalog(home).models)
    assert run(["catalog", "back"]) == 1
    assert "nothing was fetched" in capsys.readouterr().err


def test_the_address_may_stand_in_ones_models_toml(
    home: Home, publisher: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["catalog", "refresh"]) == 2
    assert "no catalog is configured, and none is by default" in capsys.readouterr().err
    digest = publisher.publish(entry("tiny"))
    del publisher.texts["/models.toml.sha256"]
    home.catalog.parent.mkdir(parents=True, exist_ok=True)
    home.catalog.write_text(f'[catalog]\nurl = "{publisher.address}"\nsha256 = "{digest}"\n')
    assert run(["catalog", "refresh"]) == 0
    assert run(["catalog", "refresh"]) == 0
    shown = capsys.readouterr().out
    assert "+ tiny" in shown and "it is the one in use" in shown
    assert run(["catalog", "show"]) == 0
    assert digest[:16] in capsys.readouterr().out
    home.catalog.write_text("[catalog]\nuri = 3\n")
    assert run(["catalog", "refresh"]) == 2
    assert "catalog.uri is unknown" in capsys.readouterr().err


def test_a_file_does_as_well_as_an_address(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSTACK_OFFLINE", "1")
    path = tmp_path / "new.toml"
    path.write_text(entry("tiny"))
    assert refresh(home, str(path), hashlib.sha256(path.read_bytes()).hexdigest()).is_new
    with pytest.raises(MissingPart, match="cannot be read"):
        refresh(home, str(tmp_path / "none.toml"), "0" * 64)


def test_addresses_that_leave_the_way_are_refused(home: Home, publisher: Publisher) -> None:
    publisher.publish(entry("tiny"))
    publisher.redirects["/models.toml"] = "http://127.0.0.1:9/elsewhere"
    for address, words in [
        (publisher.address, "redirected"),
        ("http://example.org/models.toml", "https"),
        ("ftp://example.org/models.toml", "https"),
        ("https://user:secret@example.org/models.toml", "user name"),
        (f"{publisher.url}/none.toml", "answered 404"),
        ("http://127.0.0.1:9/models.toml", "cannot be reached"),
    ]:
        with pytest.raises(StackError) as refused:
            refresh(home, address, "0" * 64)
        assert words in refused.value.what and "secret" not in refused.value.what


def test_a_text_without_end_is_cut_and_refused(home: Home, publisher: Publisher) -> None:
    publisher.publish("# " + "x" * (5 << 20))
    with pytest.raises(BadInput, match="that is no catalog"):
        refresh(home, publisher.address, "0" * 64)


def test_a_fetched_catalog_that_was_changed_or_is_not_understood_counts_for_nothing_and_doctor_says_so(
    home: Home, publisher: Publisher
) -> None:
    from llmstack.doctor.gather_stack import fetched_catalog_problem

    shipped = set(read_catalog(home).models)
    digest = publisher.publish(entry("tiny"))
    refresh(home, publisher.address)
    assert fetched_catalog_problem(home) == ""
    path = home.data / "catalog" / f"{digest[:16]}.toml"
    text = path.read_text()
    path.write_text(text + entry("intruder"))
    assert set(read_catalog(home).models) == shipped
    assert "is not what was fetched" in fetched_catalog_problem(home)
    future = entry("tiny", more='colour = "red"\n')  # as if another version had taken it
    new = hashlib.sha256(future.encode()).hexdigest()
    path.with_name(f"{new[:16]}.toml").write_text(future)
    record = home.data / "catalog" / "taken.json"
    record.write_text(record.read_text().replace(digest, new))
    assert set(read_catalog(home).models) == shipped
    assert "unknown key models.tiny.colour" in fetched_catalog_problem(home)
