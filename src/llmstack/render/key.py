"""Keys of others on the terminal: a new one once, and the list of them without any."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence

from llmstack.access.keys import ClientKey, in_words
from llmstack.access.listed import KeyList, ListedKey
from llmstack.commands import command_line, quoted
from llmstack.deploy.client_keys import NewKey
from llmstack.render.fitted import show_fitted, two_columns
from llmstack.render.output import show, style

_COLOURS = {"active": "green", "exhausted": "yellow", "expired": "red", "revoked": "red"}


def show_new(made: NewKey, variables: Mapping[str, str] | None = None) -> None:
    """The key stands alone on its line, whatever the width: it is copied from here, and nowhere else.

    variables: what Claude Code needs besides, for the deployed model.
    """
    key = made.key
    show(made.secret)
    show("")
    show_fitted(f"The key of {key.name}: {', '.join(_limits(key)) or 'every model, any number of tokens'}.", 0)
    show_fitted(
        f"Shown this once, and stored as a hash. Lost? {command_line('key', 'rotate', key.name)}   makes another.",
        0,
    )
    if made.grace_s is not None:
        show_fitted(
            f"The one before counts for {_span(made.grace_s)} more." if made.grace_s else "The one before has ended.", 0
        )
    show("")
    show_fitted("For Claude Code; other clients send it as x-api-key, or as Authorization: Bearer:", 0)
    show(f"  export ANTHROPIC_BASE_URL={made.urls[0] if made.urls else 'URL'}")
    show(f"  export ANTHROPIC_AUTH_TOKEN={made.secret}")
    for name, value in (variables or {}).items():
        show(f"  export {name}={quoted(value)}")
    if not made.is_open:
        listen = command_line("up", "--listen", "0.0.0.0")
        show_fitted(f"So far only this machine reaches the proxy: {listen}   opens it to others.", 0)


def show_keys(listed: KeyList) -> None:
    if not listed.keys:
        make = command_line("key", "add", "NAME")
        show_fitted(f"no keys but your own token; {make}   makes one for somebody else", 2)
        return
    width = max(len(row.key.name) for row in listed.keys)
    for row in listed.keys:
        label, facts = f"{row.key.name:<{width}}  {row.standing}", "; ".join(_facts(row, listed.now))
        first, *more = two_columns(label, facts, width + 13, shutil.get_terminal_size().columns)
        show(first.replace(row.standing, style(row.standing, _COLOURS.get(row.standing, "white")), 1))
        for line in more:
            show(line)


def show_revoked(key: ClientKey) -> None:
    show(f"the key of {key.name} has ended; {command_line('key', 'add', key.name)}   makes another")


def key_line(row: ListedKey, now: float) -> str:
    """One key in one line of `status`."""
    state = "" if row.standing == "active" else f"{row.standing}, "
    return f"{row.key.name}: {state}{_used(row)}, {last_seen(row.use.last_used, now)}"


def last_seen(when: float, now: float) -> str:
    if not when:
        return "never used"
    seconds = max(now - when, 0)
    for name, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"last used {seconds // size:.0f} {name} ago"
    return "last used just now"


def _facts(row: ListedKey, now: float) -> Sequence[str]:
    facts = [f"{_used(row)}, {row.use.requests:,} requests", last_seen(row.use.last_used, now)]
    facts += [limit for limit in _limits(row.key) if "tokens" not in limit]
    if row.former_until is not None:
        facts.append(f"the key before counts until {in_words(row.former_until)}")
    return facts


def _used(row: ListedKey) -> str:
    limit = f" of {row.key.tokens_per_day:,}" if row.key.tokens_per_day is not None else ""
    return f"{row.use.tokens:,}{limit} tokens today"


def _limits(key: ClientKey) -> list[str]:
    limits = [f"models {', '.join(key.models)}"] if key.models else []
    limits += [f"{key.tokens_per_day:,} tokens a day"] if key.tokens_per_day is not None else []
    return limits + ([f"until {in_words(key.expires)}"] if key.expires is not None else [])


def _span(seconds: float) -> str:
    for name, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size:.0f} {name}"
    return f"{seconds:.0f} s"
