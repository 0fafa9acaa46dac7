"""What the catalog says of a model, as part of the goal: `plan` and `up` both take it from here."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from llmstack.catalog.models import Model
from llmstack.detect.model_file import open_model
from llmstack.errors import BadInput, StackError
from llmstack.fetch.find_local import drafter_of, find_one, own_path
from llmstack.fetch.model import Source
from llmstack.gguf.reader import MAX_TEXT
from llmstack.llama_server.flags import pinnable_flag
from llmstack.paths import Home, write_private
from llmstack.plan import Goal, ModelFacts, read_facts


def with_entry(goal: Goal, entry: Model | None) -> Goal:
    """The maker's sampling settings become the server's defaults; a request that sets its own is not touched."""
    if entry is None:
        return goal
    return replace(goal, extra=(*goal.extra, *entry.server_flags(thinking=goal.reasoning != "off")))


def with_template(home: Home, goal: Goal) -> Goal:
    """The template file of `--set chat-template-file=FILE`, as a copy named by its content.

    So a changed file is another flag, and restarts the server; a file that is gone later stops nothing; and the
    service may read it wherever the user keeps the original. Raises BadInput for a file that can't be a template.
    """
    pins = dict(goal.pins)
    for name, value in goal.pins.items():
        pin = pinnable_flag(name)
        if pin is None or pin.goal_field != "chat_template_file":
            continue
        try:
            text = Path(value).expanduser().read_bytes()
            text.decode()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise BadInput(f"--set {name}={value}: the template cannot be read: {why}") from None
        if not text.strip() or len(text) > MAX_TEXT:
            raise BadInput(f"--set {name}={value}: it has {len(text)} bytes, which no chat template has")
        copy = home.data / "templates" / f"{hashlib.sha256(text).hexdigest()[:16]}.jinja"
        if not copy.is_file():
            write_private(copy, text)
        pins[name] = str(copy)
    return replace(goal, pins=pins)


def with_drafter(home: Home, goal: Goal, entry: Model | None, *, offline: bool = False) -> Goal:
    """The small model that may guess ahead: the file of `--set md=FILE`, else the catalog's.

    One that is not here is described by the catalog or by its header on the hub, with the path it would get; offline,
    or where its header cannot be had, it is left out.
    """
    for name, value in goal.pins.items():
        pin = pinnable_flag(name)
        if pin is not None and pin.name == "-md" and value.endswith(".gguf"):
            path = Path(value).expanduser().absolute()
            if not path.is_file():
                raise BadInput(f"--set {name}={value}: there is no such file")
            return replace(goal, draft=_read(home, path))
    source = drafter_of(entry) if entry is not None else None
    if entry is None or source is None:
        return goal
    here = find_one(home, source)
    if here is not None:
        return replace(goal, draft=_read(home, here))
    from llmstack.fetch import hub
    from llmstack.fetch.survey import drafter_facts

    if offline or hub.offline():
        return goal
    described = drafter_facts(entry) or _from_its_header(source)
    return replace(goal, draft=replace(described, path=str(own_path(home, source)))) if described is not None else goal


def _from_its_header(source: Source) -> ModelFacts | None:
    from llmstack.fetch.remote import header_of

    try:
        return read_facts(header_of(source))
    except StackError:  # guessing ahead is an extra: nothing is refused for the lack of it
        return None


def _read(home: Home, path: Path) -> ModelFacts:
    return read_facts(open_model(path, cache=home.cache, takes="draft").header, path=str(path))
