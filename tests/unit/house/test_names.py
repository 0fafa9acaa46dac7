"""Names: a public class has one of its own, and a variable is called by a noun that says what it is."""

from __future__ import annotations

from support.paths import ROOT
from support.sources import modules, public_classes, variables

PARTICIPLES = ("found", "told", "said", "asked", "kept", "wanted")


def test_no_public_class_name_twice() -> None:
    twice = {name: where for name, where in sorted(public_classes().items()) if len(where) > 1}
    assert not twice, "\n".join(f"{name}: {', '.join(where)}" for name, where in twice.items())


def test_no_variable_is_called_by_a_participle() -> None:
    """A ceiling of zero for each file."""
    lines = []
    for path in modules().values():
        counts = variables(path)
        used = [f"{word} ×{counts[word]}" for word in PARTICIPLES if counts[word]]
        if used:
            lines.append(f"{path.relative_to(ROOT)}: {', '.join(used)}")
    assert not lines, "\n".join(lines)
