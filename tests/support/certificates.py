"""Certificates as people make them, by openssl: of their own, for a name and an address."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple


class Pair(NamedTuple):
    cert: Path
    key: Path


def make(folder: Path, name: str = "llm.lan", *, days: int = 30, address: str = "127.0.0.1") -> Pair:
    """days: below zero for one that has expired."""
    folder.mkdir(parents=True, exist_ok=True)
    pair = Pair(folder / "cert.pem", folder / "key.pem")
    names = f"subjectAltName=DNS:{name},IP:{address}"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(pair.key))
    _openssl("req", *curve, "-new", "-subj", f"/CN={name}", "-addext", names, "-out", str(folder / "request.pem"))
    signed = ("-signkey", str(pair.key), "-days", str(days), "-copy_extensions", "copy", "-out", str(pair.cert))
    _openssl("x509", "-req", "-in", str(folder / "request.pem"), *signed)
    pair.key.chmod(0o600)
    return pair


def with_password(pair: Pair) -> Pair:
    locked = pair.key.with_name("locked.pem")
    _openssl("ec", "-in", str(pair.key), "-aes256", "-passout", "pass:secret", "-out", str(locked))
    locked.chmod(0o600)
    return Pair(pair.cert, locked)


def _openssl(*words: str) -> None:
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
