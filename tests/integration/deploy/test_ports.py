"""Ports that are free, taken, or of no address of this machine."""

from __future__ import annotations

import os
import socket

import psutil
import pytest

from llmstack import commands
from llmstack.deploy import ports
from llmstack.deploy.ports import WantedPort
from llmstack.errors import BadInput, MissingPart


class TestPorts:
    def test_a_free_port_passes(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        ports.check_free([WantedPort("proxy", "127.0.0.1", port, "--port")], ours=())

    def test_a_taken_one_is_refused_with_program_and_pid_and_a_way_out(self) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(MissingPart) as refused:
                ports.check_free([WantedPort("proxy", "127.0.0.1", port, "--port")], ours=())
            assert f"{psutil.Process().name()} (pid {os.getpid()})" in refused.value.what
            other_port = int(refused.value.next.rsplit(" ", 1)[1])
            assert other_port > port and ports.is_free("127.0.0.1", other_port)
            ports.check_free([WantedPort("proxy", "127.0.0.1", port, "--port")], ours=[os.getpid()])

    def test_both_ports_are_told_at_once_and_the_remedy_repeats_the_command(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(commands, "_typed", ("up", "--demo", "--port", "1", "--ctx=4096"))
        with socket.socket() as one, socket.socket() as two:
            for taken in (one, two):
                taken.bind(("127.0.0.1", 0))
                taken.listen()
            first, second = (taken.getsockname()[1] for taken in (one, two))
            with pytest.raises(MissingPart) as refused:
                ports.check_free(
                    [
                        WantedPort("proxy", "127.0.0.1", first, "--port"),
                        WantedPort("server", "127.0.0.1", second, "--server-port"),
                    ],
                    ours=(),
                )
        assert f"port {first}" in refused.value.what and f"port {second}" in refused.value.what
        words = refused.value.next.rpartition(": ")[2].split()
        assert words[1:4] == ["up", "--demo", "--ctx=4096"]
        chosen = {words[words.index(flag) + 1] for flag in ("--port", "--server-port")}
        assert len(chosen) == 2 and not chosen & {str(first), str(second)}

    @pytest.mark.parametrize("host", ["192.0.2.77", "nonsense", "2001:db8::7", "127.0.0.1:80", ""])
    def test_what_is_no_address_of_this_machine_is_refused_with_those_it_has(self, host: str) -> None:
        with pytest.raises(BadInput) as refused:
            ports.check_address(host)
        assert "is no " in refused.value.what and "127.0.0.1" in refused.value.why
        assert "--listen 0.0.0.0" in refused.value.next and "--port" not in refused.value.next

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::", "localhost"])
    def test_addresses_of_this_machine_pass(self, host: str) -> None:
        ports.check_address(host)
