"""What an upgrade proved, on the terminal."""

from __future__ import annotations

import textwrap

from llmstack.commands import command_line
from llmstack.render.output import columns, show, style
from llmstack.upgrade.proofs import Proof, failed, rate_text
from llmstack.upgrade.run import Upgraded

MARKS = {True: ("ok", "green"), False: ("fails", "red"), None: ("shown", "yellow")}


def show_upgraded(result: Upgraded) -> None:
    import sys

    width = columns(sys.stdout) or 100
    show(f"{style(result.after, 'cyan')} on the deployed model, beside {result.before}; tools: {result.tools}")
    for proof in result.proofs:
        _show(proof, width)
    for name, value in result.earlier.items():
        show(f"{'':30}{name}: {rate_text(value)} tokens/s in the last bench")
    for sentence in result.notices:
        show(sentence)
    bad = failed(result.proofs)
    if result.switched:
        despite = f", though {_names(bad)} failed" if bad else ""
        show(f"the stack runs on {style(result.after, 'cyan')} now{despite}")
        show(f"next: {command_line('engine', 'rollback')}   goes back to {result.before}")
        return
    show(f"{style(result.before, 'cyan')} stays in use: {_names(bad)} failed")
    show(f"next: {command_line('engine', 'upgrade', '--to', result.after, '--insist')}   moves to it all the same")


def _names(proofs: tuple[Proof, ...]) -> str:
    return ", ".join(proof.name for proof in proofs)


def _show(proof: Proof, width: int) -> None:
    word, colour = MARKS[proof.ok]
    show(f"  {style(f'{word:<5}', colour)}  {proof.name:<19}  {proof.figure}")
    if proof.why:
        for line in textwrap.wrap(proof.why, max(width - 30, 40)):
            show(f"{'':30}{line}")
