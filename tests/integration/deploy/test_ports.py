"""Ports that are free, taken, or of no address of this machine."""

from __future__ import annotations

import os
import socket

import psutil
import pytest

from llmstack.deploy import ports
from llmstack.errors import MissingPart


class TestPorts:
    def test_a_free_port_passes(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        ports.check_free("127.0.0.1", port, what="proxy", flag="--port", ours=())

    def test_a_taken_one_is_refused_with_program_and_pid_and_a_way_out(self) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(MissingPart) as refused:
                ports.check_free("127.0.0.1", port, what="proxy", flag="--port", ours=())
            assert f"{psutil.Process().name()} (pid {os.getpid()})" in refused.value.what
            assert f"--port {port + 1}" in refused.value.next
            ports.check_free("127.0.0.1", port, what="proxy", flag="--port", ours=[os.getpid()])

    def test_an_address_that_is_not_here_is_told(self) -> None:
        with pytest.raises(MissingPart) as refused:
            ports.check_free("192.0.2.1", 5000, what="proxy", flag="--port", ours=())
        assert "no address of this machine" in refused.value.why
