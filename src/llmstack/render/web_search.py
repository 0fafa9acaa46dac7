"""Web search on the screen: what is set, and what a search found."""

from __future__ import annotations

from llmstack.client.web_setup import SearchTrial, WebSetup
from llmstack.commands import command_line
from llmstack.render.output import show

_KEYS = {
    "key": "its key is stored, readable by you alone",
    "no key": "its key is missing",
    "open": "its key can be read by others, and is not used",
}


def show_setup(setup: WebSetup) -> None:
    data, service = setup.to_json(), setup.settings.service
    if not service:
        show(f"web search is off; {command_line('web-search', 'use', 'searxng', 'URL')}   turns it on")
    else:
        where = " ".join(data["command"]) if data["command"] else data["base_url"]
        show(f"web searches go to {service}: {where}")
        if setup.key == "variable":
            show(f"its key is the proxy's variable {data['key_env']}")
        elif setup.key in _KEYS:
            show(_KEYS[setup.key])
    if setup.settings.fetch:
        show("pages are fetched from the public internet (web_fetch)")
    if service:
        show(f"next: {command_line('web-search', 'test', 'QUERY')}")


def show_trial(trial: SearchTrial) -> None:
    if not trial.hits:
        show(f"{trial.service} answered, and found nothing")
    for number, hit in enumerate(trial.hits, start=1):
        show(f"{number}. {hit.title}")
        show(f"   {hit.url}{f'  ({hit.age})' if hit.age else ''}")
        if hit.snippet:
            show(f"   {hit.snippet[:200]}")
