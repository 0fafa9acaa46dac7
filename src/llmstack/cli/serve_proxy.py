"""`llmstack serve-proxy`: what the proxy's unit runs."""

from __future__ import annotations

import click


@click.command(help="Run the proxy in the foreground.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--allow-host", multiple=True, metavar="NAME", help="A further name clients may reach it by.")
@click.option("--tls-host", metavar="ADDRESS", help="Also listen there with TLS, for other machines.")
@click.option("--tls-port", default=5443, show_default=True, type=click.IntRange(1, 65535))
@click.option("--tls-cert", default="", metavar="FILE", help="Its certificate, with the chain, in PEM.")
@click.option("--tls-key", default="", metavar="FILE", help="The key of the certificate, in PEM.")
@click.option("--debug", is_flag=True, help="Write each exchange, redacted, to a 0600 file below the state folder.")
def command(
    host: str,
    port: int,
    allow_host: tuple[str, ...],
    tls_host: str | None,
    tls_port: int,
    tls_cert: str,
    tls_key: str,
    debug: bool,
) -> int:
    from llmstack.deploy.supervisors import supervisor_for
    from llmstack.paths import home
    from llmstack.proxy.serve import serve
    from llmstack.stackfile import TlsEntry

    folders = home()
    tls = TlsEntry(tls_host, tls_port, tls_cert, tls_key) if tls_host else None
    serve(folders, host, port, allow_hosts=allow_host, debug=debug, supervisor=lambda: supervisor_for(folders), tls=tls)
    return 0
