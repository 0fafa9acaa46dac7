"""The listener for other machines: TLS by the user's certificate, checked before anything is stopped, renewed alive."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from llmstack.certificate import examine
from llmstack.cli.main import run
from llmstack.deploy.addresses import addresses_of
from llmstack.deploy.client_keys import add
from llmstack.deploy.planning import UpRequest
from llmstack.deploy.reached_at import trouble, urls
from llmstack.errors import BadInput
from llmstack.paths import Home, home
from llmstack.protocol.limits import most
from llmstack.stackfile import ProxyAlone, ProxyEntry, TlsEntry, write_alone
from llmstack.supervisor import Service
from support import certificates
from support.certificates import Pair
from support.paths import DOCS
from support.proxy_stand import TOKEN, ProxyStand, ask, standing
from support.upstream import Upstream
from support.wait import eventually, free_port


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return certificates.make(tmp_path_factory.mktemp("certificate"))


class Secured:
    """A proxy with both listeners, and a client of the one with TLS."""

    def __init__(self, stand: ProxyStand, pair: Pair, port: int) -> None:
        self.stand = stand
        self.pair = pair
        self.port = port

    def connection(self, ca: Path | None = None) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(ca or self.pair.cert))
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=context)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        connection = self.connection()
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, json.dumps(body) if body else None, sent)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, module_upstream: Upstream, pair: Pair) -> Iterator[Secured]:
    port = free_port()
    words = (
        "--tls-host",
        "127.0.0.1",
        "--tls-port",
        str(port),
        "--tls-cert",
        str(pair.cert),
        "--tls-key",
        str(pair.key),
    )
    with standing(tmp_path_factory.mktemp("secured") / "home", module_upstream.port, *words) as stand:
        yield Secured(stand, pair, port)


def test_other_machines_get_the_same_proxy_behind_the_user_s_certificate(secured: Secured, upstream: Upstream) -> None:
    status, data = secured.request("POST", "/v1/messages", ask(), x_api_key=TOKEN)
    assert status == 200 and b"message_stop" in data
    assert secured.request("POST", "/v1/messages", ask(), x_api_key="wrong")[0] == 401
    assert secured.request("GET", "/v1/models", host="llm.lan", x_api_key=TOKEN)[0] == 200, "the certificate's own name"
    assert secured.request("GET", "/v1/models", host="evil.example", x_api_key=TOKEN)[0] == 403
    assert secured.request("GET", "/metrics")[0] == 401, "figures are for this machine, or for the owner's token"
    assert secured.stand.get("/metrics", token=None).status == 200
    assert secured.stand.post(ask()).said == "Hello", "this machine's own clients need no certificate"


def test_a_client_that_speaks_no_tls_or_trusts_nobody_gets_nothing(secured: Secured, tmp_path: Path) -> None:
    other = certificates.make(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        secured.connection(other.cert).request("GET", "/health")
    with pytest.raises((http.client.HTTPException, OSError)):
        plain = http.client.HTTPConnection("127.0.0.1", secured.port, timeout=30)
        plain.request("GET", "/health")
        plain.getresponse()
    assert secured.request("GET", "/health")[0] == 200


def test_connections_that_never_agree_on_tls_are_bounded_and_the_plain_port_does_not_notice(
    secured: Secured, upstream: Upstream
) -> None:
    with ExitStack() as open_ones:
        for _ in range(most("handshakes") + 40):
            open_ones.enter_context(socket.create_connection(("127.0.0.1", secured.port), timeout=30))
        late = open_ones.enter_context(socket.create_connection(("127.0.0.1", secured.port), timeout=30))
        assert late.recv(1) == b"", "closed at once"
        assert secured.stand.post(ask()).said == "Hello"
    eventually(lambda: _answers(secured))


def _answers(secured: Secured) -> bool:
    with suppress(OSError):
        return secured.request("GET", "/health")[0] == 200
    return False


def test_a_renewed_certificate_is_taken_up_and_half_a_renewal_changes_nothing(
    tmp_path: Path, upstream: Upstream
) -> None:
    pair, port = certificates.make(tmp_path / "now"), free_port()
    newer = certificates.make(tmp_path / "newer")
    words = (
        "--tls-host",
        "127.0.0.1",
        "--tls-port",
        str(port),
        "--tls-cert",
        str(pair.cert),
        "--tls-key",
        str(pair.key),
    )
    with standing(tmp_path / "home", upstream.port, *words) as stand:
        before = pair.cert.with_name("before.pem")
        before.write_bytes(pair.cert.read_bytes())
        client = Secured(stand, pair, port)
        newer.cert.replace(pair.cert)
        eventually(lambda: any(line["event"] == "certificate" for line in stand.log))
        client.connection(before).request("GET", "/health")
        newer.key.replace(pair.key)
        eventually(lambda: [line["result"] for line in stand.log if line["event"] == "certificate"][-1] == "reloaded")
        assert client.request("GET", "/health")[0] == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            client.connection(before).request("GET", "/health")


def test_a_certificate_that_is_gone_at_a_start_costs_the_others_and_not_this_machine(
    tmp_path: Path, upstream: Upstream
) -> None:
    words = ("--tls-host", "127.0.0.1", "--tls-port", str(free_port()), "--tls-cert", "/gone", "--tls-key", "/gone")
    with standing(tmp_path / "home", upstream.port, *words) as stand:
        assert stand.post(ask()).status == 200
        assert [line["why"] for line in stand.log if line["event"] == "certificate"] == ["/gone cannot be read"]


def spoiled(pair: Pair, folder: Path, how: str) -> tuple[str, str]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(pair.cert.read_bytes())
    key.write_bytes(pair.key.read_bytes())
    key.chmod(0o600)
    if how == "another key":
        key.write_bytes(certificates.make(folder / "other").key.read_bytes())
    elif how == "a password":
        return str(cert), str(certificates.with_password(pair).key)
    elif how == "no certificate":
        cert.write_text("hello")
    elif how == "missing":
        key.unlink()
    elif how == "a folder":
        return str(folder), str(key)
    elif how == "open":
        key.chmod(0o644)
    return str(cert), str(key)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("another key", "is not the key of"),
        ("a password", "has a password"),
        ("no certificate", "no certificate and its key"),
        ("missing", "cannot be read"),
        ("a folder", "cannot be read"),
        ("open", "can be read by every user"),
    ],
)
def test_files_that_no_server_could_use_are_named(pair: Pair, tmp_path: Path, how: str, says: str) -> None:
    with pytest.raises(BadInput) as error:
        examine(*spoiled(pair, tmp_path, how))
    assert says in error.value.what and error.value.next


def test_whom_it_names_and_until_when(pair: Pair, tmp_path: Path) -> None:
    read = examine(str(pair.cert), str(pair.key))
    assert (read.names, read.addresses, read.not_now) == (("llm.lan",), ("127.0.0.1",), "")
    assert read.ends is not None and 29 * 86400 < read.ends - time.time() < 31 * 86400
    assert examine(*map(str, certificates.make(tmp_path, days=-1))).not_now == "has expired"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path / "stack"))
    return home().make()


def deployed(folders: Home, proxy: ProxyEntry) -> None:
    write_alone(folders, ProxyAlone(proxy, "process", Service("proxy", "", ("/x",))))


def test_what_others_reach_needs_a_key_beside_the_owner_s(folders: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["up", "--proxy-only", "--listen", "0.0.0.0"]) == 2
    assert "key add NAME" in capsys.readouterr().err
    with pytest.raises(BadInput):
        addresses_of(folders, UpRequest(proxy_host="0.0.0.0"))
    add(folders, "kim", time.time() - 7200, expires="1h")
    with pytest.raises(BadInput):
        addresses_of(folders, UpRequest(proxy_host="0.0.0.0"))
    add(folders, "lee", time.time())
    assert addresses_of(folders, UpRequest(proxy_host="0.0.0.0")).proxy == ProxyEntry("0.0.0.0")
    assert addresses_of(folders, UpRequest(proxy_host="127.0.0.1")).proxy == ProxyEntry()


def test_with_a_certificate_the_plain_port_stays_here_and_all_of_it_is_kept_until_it_is_said_otherwise(
    folders: Home, pair: Pair, tmp_path: Path
) -> None:
    add(folders, "kim", time.time())
    files = (str(pair.cert), str(pair.key))
    asked = addresses_of(folders, UpRequest(proxy_host="0.0.0.0", tls_files=files)).proxy
    assert asked == ProxyEntry("127.0.0.1", tls=TlsEntry("0.0.0.0", 5443, *files))
    assert asked.is_open and not asked.is_plain and asked.url == "http://127.0.0.1:5000"
    deployed(folders, asked)
    assert addresses_of(folders, UpRequest()).proxy == asked
    assert addresses_of(folders, UpRequest(proxy_port=5001)).proxy.tls == asked.tls
    assert addresses_of(folders, UpRequest(tls_port=6000)).proxy.tls == TlsEntry("0.0.0.0", 6000, *files)
    assert addresses_of(folders, UpRequest(proxy_host="127.0.0.1")).proxy == ProxyEntry()
    assert addresses_of(folders, UpRequest(tls_files=("", ""))).proxy == ProxyEntry("0.0.0.0")
    for wrong in (UpRequest(tls_port=5000), UpRequest(tls_files=(files[0], "/gone"))):
        with pytest.raises(BadInput):
            addresses_of(folders, wrong)
    old = certificates.make(tmp_path, days=-1)
    with pytest.raises(BadInput):
        addresses_of(folders, UpRequest(tls_files=(str(old.cert), str(old.key))))


def test_a_certificate_for_this_machine_alone_or_without_its_key_is_refused(
    folders: Home, pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["up", "--proxy-only", "--tls-cert", str(pair.cert)]) == 2
    assert "--tls-key FILE" in capsys.readouterr().err
    assert run(["up", "--proxy-only", "--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]) == 2
    assert "--listen 0.0.0.0" in capsys.readouterr().err


def test_the_addresses_shown_are_those_that_the_certificate_names(pair: Pair, tmp_path: Path) -> None:
    files = (str(pair.cert), str(pair.key))
    assert urls(ProxyEntry(tls=TlsEntry("0.0.0.0", 5443, *files))) == ("https://llm.lan:5443",)
    assert urls(ProxyEntry(allow_hosts=("box",), tls=TlsEntry("192.0.2.7", 5443, *files)))[0] == "https://box:5443"
    plain = ProxyEntry("192.0.2.7", 5000, ("box",))
    assert urls(plain) == ("http://box:5000", "http://192.0.2.7:5000")
    named = certificates.make(tmp_path / "named", address="192.0.2.7")
    both = urls(ProxyEntry(tls=TlsEntry("192.0.2.7", 5443, str(named.cert), str(named.key))))
    assert both == ("https://llm.lan:5443", "https://192.0.2.7:5443")


def test_a_certificate_that_ends_soon_or_has_ended_is_spoken_of(pair: Pair, tmp_path: Path) -> None:
    def said(days: int) -> str:
        made = certificates.make(tmp_path / str(days), days=days)
        return " ".join(trouble(ProxyEntry(tls=TlsEntry("0.0.0.0", 5443, str(made.cert), str(made.key)))))

    assert said(90) == "" and "ends at" in said(9) and "has expired" in said(-1)
    gone = trouble(ProxyEntry(tls=TlsEntry("0.0.0.0", 5443, "/gone", "/gone")))
    assert "/gone cannot be read" in gone[0] and "up --tls-cert FILE --tls-key FILE" in gone[0]


def test_the_certificate_of_the_page_is_one_that_is_taken(tmp_path: Path) -> None:
    block = re.search(r"```sh\n(openssl .*?)```", (DOCS / "team.md").read_text(), re.DOTALL)
    assert block is not None
    subprocess.run(["bash", "-ec", block[1]], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    read = examine(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    assert (read.names, read.addresses, read.not_now) == (("llm.lan",), ("192.168.1.5",), "")
