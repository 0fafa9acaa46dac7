"""The source tree as syntax: its modules, what each imports, and the names it gives to variables."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from support.paths import PACKAGE, SOURCES


@cache
def modules() -> dict[str, Path]:
    """Dotted name of each module and package, with its file."""
    every = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(SOURCES).with_suffix("").parts
        every[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return every


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def packages() -> dict[str, list[str]]:
    """Each package below the root, and the names of the modules and packages directly in it."""
    inner: dict[str, list[str]] = {name: [] for name, path in modules().items() if path.name == "__init__.py"}
    for name in modules():
        parent, _, own = name.rpartition(".")
        if parent in inner and own != "__main__":
            inner[parent].append(own)
    return {name: own for name, own in inner.items() if "." in name}


def imports(name: str) -> set[str]:
    """The modules that this one imports by name, those of its functions included, those for the type checker not."""
    every: set[str] = set()
    for node in _walked(tree(modules()[name])):
        if isinstance(node, ast.Import):
            every |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            every |= {full if full in modules() else node.module for full in inner}
    return {module for module in every if module in modules() and module != name}


def _walked(node: ast.AST) -> Iterator[ast.AST]:
    """As ast.walk, without what stands under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _walked(child)


def circles() -> list[list[str]]:
    """Groups of modules that import each other, directly or round a corner (Tarjan's components of more than one)."""
    graph = {name: imports(name) for name in modules()}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = stack.index(name)
            group = sorted(stack[at:])
            del stack[at:]
            if len(group) > 1:
                groups.append(group)

    for name in graph:
        if name not in index:
            visit(name)
    return groups


def public_classes() -> dict[str, list[str]]:
    """Each public class name with the modules that define it at their top."""
    every: dict[str, list[str]] = {}
    for module, path in modules().items():
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                every.setdefault(node.name, []).append(module)
    return every


def variables(path: Path) -> Counter[str]:
    """How often each name is bound as a variable or a parameter; fields of classes and attributes are not counted."""
    bound: Counter[str] = Counter()
    fields = {id(inner.target) for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)
              for inner in node.body if isinstance(inner, ast.AnnAssign)}  # fmt: skip
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in fields:
            bound[node.id] += 1
        elif isinstance(node, ast.arg):
            bound[node.arg] += 1
        elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
            bound[node.name] += 1
    return bound
