"""Known holes of llama.cpp that a build in use may still have: one table, and which of it concerns an engine.

Holes that were fixed before the oldest build that is started (MIN_BUILD) are not in it, except the one that sets it.
Sources: the CVE records and llama.cpp's pull requests, as of November 2026.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_BUILD = 11393
"""The oldest build that is started: clients' requests reach it through the proxy, and it reads files from the net.

Before it a request's `chat_parser` is used after it was freed (CVE-2026-107183), and a GGUF file can overflow the heap
(CVE-2026-27940, fixed in b8146; two more sizes that wrap, in b11275 and b11302: llama.cpp pulls 26979 and 29384).
"""


@dataclass(frozen=True, slots=True)
class Advisory:
    """affected: the first build that has the hole, 0 for all before `fixed`. fixed: the build without it, None while
    there is none. protection: what keeps it out of reach meanwhile, empty where nothing does. needs_rpc: only an engine
    that computes over RPC can be reached by it."""

    id: str
    about: str
    affected: int
    fixed: int | None
    protection: str = ""
    needs_rpc: bool = False

    def concerns(self, build: int, *, rpc: bool) -> bool:
        is_open = self.affected <= build and (self.fixed is None or build < self.fixed)
        return is_open and (rpc or not self.needs_rpc)


ADVISORIES: tuple[Advisory, ...] = (
    Advisory(
        "CVE-2026-107183", "a request's chat_parser is used after it was freed", 8227, 11393,
        "the proxy passes no chat_parser on",
    ),
    Advisory(
        "CVE-2026-134540", "a request's grammar_triggers are taken for another type", 0, 12405,
        "the proxy passes no grammar_triggers on; a program that asks the engine itself needs its key",
    ),
    Advisory(
        "CVE-2026-118375", "RPC over RDMA: memory of the machine can be read and written from the network",
        8841, 11865, needs_rpc=True,
    ),
    Advisory(
        "CVE-2026-137567", "RPC copy_tensor: memory of the machine can be read and written from the network",
        11450, 12658, needs_rpc=True,
    ),
    Advisory(
        "llama.cpp#26318", "a GGUF file whose alignment wraps around is read beyond its end", 0, None,
        "models are pulled by digest from repositories that you name (a file from elsewhere is not)",
    ),
)  # fmt: skip


def open_in(build: int | None, *, rpc: bool = False) -> tuple[Advisory, ...]:
    """The holes of this build, the ones that nothing protects first; none for a build that is not known.

    rpc: whether the engine computes on other machines, or other machines on it.
    """
    if build is None:
        return ()
    holes = [advisory for advisory in ADVISORIES if advisory.concerns(build, rpc=rpc)]
    return tuple(sorted(holes, key=lambda advisory: bool(advisory.protection)))
