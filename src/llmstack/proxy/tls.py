"""The second listener: for other machines, with the user's certificate, which is taken up again when it is renewed."""

from __future__ import annotations

import socket
import ssl
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmstack.certificate import Certificate, examine
from llmstack.errors import BadInput
from llmstack.protocol.limits import most
from llmstack.stackfile import TlsEntry

HANDSHAKE_S = 5.0  # a client that says nothing holds an open file for so long, and no longer


class CountedHandshakes(ssl.SSLContext):
    """Connections that have not agreed on TLS yet are none to `ConnectionLimits`; they would take every open file."""

    _begun: tuple[tuple[float, weakref.ref[ssl.SSLObject]], ...] = ()  # each with the moment at which it is given up

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        """Called at each accepted connection. Raises ConnectionAbortedError, which ends it, for one too many."""
        now = time.monotonic()
        self._begun = tuple((end, begun) for end, begun in self._begun if now < end and _is_unfinished(begun()))
        if len(self._begun) >= most("handshakes"):
            raise ConnectionAbortedError("too many handshakes at once")
        handshake = super().wrap_bio(*arguments, **named)
        self._begun = (*self._begun, (now + HANDSHAKE_S, weakref.ref(handshake)))
        return handshake


@dataclass(slots=True)
class TlsListener:
    """certificate: the one of now; a handshake takes it from here. Raises BadInput for one that cannot be used."""

    entry: TlsEntry
    socket: socket.socket
    log_event: Callable[[str, dict[str, Any]], None]
    certificate: Certificate = field(init=False)
    context: ssl.SSLContext = field(init=False)
    _seen: tuple[object, ...] = field(init=False)

    def __post_init__(self) -> None:
        self._seen = self._files()
        self.certificate = examine(self.entry.cert, self.entry.key)
        self.context = CountedHandshakes(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.load_cert_chain(self.entry.cert, self.entry.key)
        self.context.sni_callback = self._of_now

    def _of_now(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        """Called in each handshake, also where the client names nobody."""
        connection.context = self.certificate.context

    def refresh(self) -> None:
        """Files that are changed at this moment, one before the other, do not go together: they are looked at again."""
        files = self._files()
        if files == self._seen:
            return
        try:
            self.certificate = examine(self.entry.cert, self.entry.key)
            self._seen = files
            self.log_event("certificate", {"result": "reloaded", "ends": self.certificate.ends})
        except BadInput as error:
            if self._seen != (files, "bad"):
                self.log_event("certificate", {"result": "kept the old one", "why": error.what})
            self._seen = (files, "bad")

    def _files(self) -> tuple[object, ...]:
        return tuple(_signature(Path(name)) for name in (self.entry.cert, self.entry.key))


def _is_unfinished(handshake: ssl.SSLObject | None) -> bool:
    return handshake is not None and handshake.version() is None


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns)
