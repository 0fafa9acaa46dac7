"""All checks over one set of facts."""

from __future__ import annotations

from llmstack.doctor import client, machine, stack
from llmstack.doctor.facts import Check, DoctorFacts, DoctorReport

CHECKS: tuple[Check, ...] = (*machine.CHECKS, *stack.CHECKS, *client.CHECKS)


def diagnose(facts: DoctorFacts) -> DoctorReport:
    return DoctorReport(tuple(finding for check in CHECKS for finding in check(facts)))
