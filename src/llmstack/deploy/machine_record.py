"""A machine that is planned for, as data: this one as it was looked at, or another as its record describes it.

Apart from `machine`, which looks: a plan for another machine loads nothing that asks drivers, engines or services.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.errors import BadInput
from llmstack.gguf import printable
from llmstack.hardware import Device, Hardware, from_json
from llmstack.plan.devices import usable_hardware
from llmstack.sizes import mib_text

if TYPE_CHECKING:
    from llmstack.engine.find import Engine


MOST_NAMED = 4  # programs


@dataclass(frozen=True, slots=True)
class Machine:
    """hardware: its free memory counts what our own server holds as free. engine: None where there is none to use.

    serves: our server runs. estimates: no driver says how much of a card it holds, so its own plan did. spare: devices
    that only a pinned -dev uses. warnings: a sentence each. holders: programs that hold memory of a card now, and MiB.
    idle: the same machine as if they were closed. unused: cards that another build of the engine could use.
    """

    hardware: Hardware
    engine: Engine | None = None
    serves: bool = False
    estimates: bool = False
    spare: tuple[Device, ...] = ()
    warnings: tuple[str, ...] = ()
    holders: tuple[tuple[str, int], ...] = ()
    idle: Hardware | None = None
    unused: tuple[str, ...] = ()

    def without_others(self) -> Machine:
        """As if the programs that hold memory of a card were closed."""
        return self if self.idle is None else replace(self, hardware=self.idle, holders=())

    def told(self) -> str:
        """A sentence on these programs; empty without one."""
        if not self.holders:
            return ""
        named = ", ".join(f"{printable(name)} {mib_text(mib)}" for name, mib in self.holders[:MOST_NAMED])
        return (
            f"of the card, other programs hold now: {named}. --idle plans as if they were closed, --keep-free SIZE "
            f"leaves room for more of them"
        )


def machine_of_file(file: Path) -> Machine:
    """Another machine, as its `llmstack doctor --hardware` describes it. Raises BadInput."""
    try:
        hardware, usable = usable_hardware(from_json(file.read_bytes()))
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from None
    return Machine(hardware, spare=usable.spare, warnings=usable.reasons)
