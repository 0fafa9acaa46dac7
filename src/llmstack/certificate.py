"""A certificate and its key, as files of the user's: whether they go together, whom they name, until when.

Both are proved by what they are for: a handshake, in memory, of a server that has them with a client that trusts them.
The standard library reads a certificate in no other public way, and nothing else of a handshake could go wrong later.
"""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmstack.commands import again
from llmstack.errors import BadInput

_EXPIRED, _TOO_EARLY = 10, 9  # X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID
_STEPS = 20


@dataclass(frozen=True, slots=True)
class Certificate:
    """context: for a server that has it. names, addresses: whom it names. ends: seconds since the epoch.

    not_now: why no client takes it at this moment; nothing more is then known of it.
    """

    context: ssl.SSLContext
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    ends: float | None = None
    not_now: str = ""


def examine(cert: str, key: str) -> Certificate:
    """Raises BadInput for files that no server could use."""
    _check_files(cert, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except _HasPassword:
        why = "the proxy starts at boot, when nobody can type it"
        raise BadInput(f"the key {key} has a password", why=why, next=_with(cert, "KEY_WITHOUT_A_PASSWORD")) from None
    except ssl.SSLError as error:
        raise BadInput(_problem(cert, key, error), why=error.reason or str(error), next=_with("FILE", "FILE")) from None
    except OSError as error:
        raise BadInput(f"{cert} cannot be used: {error.strerror or error}", next=_with("FILE", "FILE")) from None
    try:
        subject = _handshake(context, cert)
    except ssl.SSLCertVerificationError as error:
        words = {_EXPIRED: "has expired", _TOO_EARLY: "is not valid yet"}
        return Certificate(context, not_now=words.get(error.verify_code, f"is taken by nobody: {error.verify_message}"))
    except ssl.SSLError as error:
        why = error.reason or str(error)
        raise BadInput(f"no client can use {cert}", why=why, next=_with("FILE", "FILE")) from None
    alternatives = [(kind, name) for kind, name in subject.get("subjectAltName", ()) if isinstance(name, str)]
    return Certificate(
        context,
        tuple(name.lower() for kind, name in alternatives if kind == "DNS"),
        tuple(name for kind, name in alternatives if kind == "IP Address"),
        float(ssl.cert_time_to_seconds(str(subject["notAfter"]))),
    )


class _HasPassword(Exception):
    pass


def _no_password() -> str:
    raise _HasPassword  # without it OpenSSL asks at the terminal


def _problem(cert: str, key: str, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{key} is not the key of {cert}"
    return f"{cert} and {key} are no certificate and its key, in PEM"


def _check_files(cert: str, key: str) -> None:
    for path in (Path(cert), Path(key)):
        try:
            status = path.stat()
            with path.open("rb"):
                pass
        except OSError as error:
            why = error.strerror or str(error)
            raise BadInput(f"{path} cannot be read", why=why, next=_with("FILE", "FILE")) from None
        if not stat.S_ISREG(status.st_mode):
            raise BadInput(f"{path} is no file", next=_with("FILE", "FILE"))
    if Path(key).stat().st_mode & stat.S_IROTH:
        raise BadInput(f"the key {key} can be read by every user of this machine", next=f"chmod o-r {key}")


def _with(cert: str, key: str) -> str:
    return again("up", "--tls-cert", cert, "--tls-key", key)


def _handshake(server_context: ssl.SSLContext, cert: str) -> dict[str, Any]:
    """The certificate as a client sees it that trusts exactly this one. Raises ssl.SSLError."""
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client_context.load_verify_locations(cafile=os.fspath(cert))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(down, up)
    server = server_context.wrap_bio(up, down, server_side=True)
    for _ in range(_STEPS):
        pending = False
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pending = True
        if not pending:
            break
    return dict(client.getpeercert() or {})
