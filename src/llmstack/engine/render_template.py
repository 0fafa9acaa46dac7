"""Renders a chat template that nobody has looked at: a program of its own, run by tool_sight, for each template once.

Reads one JSON object on stdin ({"template", "bos_token", "eos_token", "bodies"}) and writes one on stdout
({"prompts": [text or null, …]}). It may take SECONDS of processor time and MEMORY bytes, and can write no file.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from datetime import datetime
from typing import Any, NoReturn

SECONDS, MEMORY, LONGEST = 2, 512 << 20, 1 << 20
_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")  # marks for training, which nobody else knows


def main() -> None:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    request = json.loads(sys.stdin.buffer.read())
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    template = environment.from_string(_GENERATION.sub("", request["template"]))
    tokens = {name: request[name] for name in ("bos_token", "eos_token")}
    prompts = [_rendered(template, body | tokens) for body in request["bodies"]]
    sys.stdout.write(json.dumps({"prompts": prompts}))


def _rendered(template: Any, body: dict[str, Any]) -> str | None:
    """None where the template refuses this conversation."""
    pieces, length = [], 0
    try:
        for piece in template.generate(**body):
            pieces.append(piece)
            length += len(piece)
            if length > LONGEST:
                return None
    except Exception:
        return None
    return "".join(pieces)


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)


if __name__ == "__main__":
    main()
