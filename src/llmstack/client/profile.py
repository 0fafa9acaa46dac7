"""A profile's environment as it is now: read from models.toml, the record of what is deployed, and the key files."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping
from pathlib import Path

from llmstack import stackfile
from llmstack.access.keys import ClientKey
from llmstack.catalog import overlay, routes
from llmstack.catalog.profiles import Gateway, Profile, profiles
from llmstack.catalog.profiles import profile as find_profile
from llmstack.client.environment import ClientEnvironment, ModelLimits, StackAccess, claude_environment
from llmstack.client.settings import StackSettings
from llmstack.client.tiers import routed_tiers
from llmstack.commands import again, command_line, quoted
from llmstack.deploy import keys
from llmstack.errors import BadInput, MissingPart, NotSo
from llmstack.paths import Home, catalog_texts, chosen_root, own_command
from llmstack.proxy.live_config import read_secret

DEFAULT = "local"
# Of this machine, or said apart from the rest.
_OF_HERE = ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "LLMSTACK_", "NO_PROXY", "no_proxy")


def files(home: Home) -> overlay.Overlay:
    """models.toml, the user's over the shipped one. Raises BadInput with the line of what is wrong."""
    return overlay.load(catalog_texts(home))


def routing(home: Home) -> routes.Routing:
    """Raises BadInput for a models.toml that the proxy would not take either."""
    return routes.read(files(home))


def environment_of(home: Home, name: str, inherited: Mapping[str, str]) -> ClientEnvironment:
    """Raises NotSo when nothing is deployed and the profile needs it, BadInput, MissingPart for a key.

    A profile whose model is answered elsewhere needs the proxy alone.
    """
    profile = profile_of(home, name)
    if profile.gateway is not Gateway.STACK:
        return claude_environment(name, profile, inherited, key=_key(home, name, profile, inherited))
    deployed, proxy = stackfile.read(home), stackfile.read_proxy(home)
    if needs_local_model(home, name) and deployed is None:
        raise NotSo(
            "nothing is deployed yet", next=f"{command_line('up', 'MODEL')}   or   {command_line('up', '--demo')}"
        )
    if proxy is None:
        raise NotSo("the proxy has not been started yet", next=command_line("up", "--proxy-only"))
    stack = StackAccess(proxy.url, keys.token(home), deployed.model.name if deployed is not None else "")
    limits, tiers = _limits(home, profile, deployed), routed_tiers(routing(home))
    return claude_environment(name, profile, inherited, stack=stack, limits=limits, tiers=tiers)


def environment_for_key(home: Home, key: ClientKey) -> Mapping[str, str]:
    """What Claude Code needs on another machine besides the address and the key: the deployed model, its context, its
    time-outs. Empty where nothing is deployed, or the key may ask for no such model."""
    deployed = stackfile.read(home)
    if deployed is None or not key.may_ask_for(deployed.model.name):
        return {}
    variables = environment_of(home, DEFAULT, {}).variables
    return {name: value for name, value in variables.items() if not name.startswith(_OF_HERE)}


def leads_to_stack(home: Home, name: str) -> bool:
    return profile_of(home, name).gateway is Gateway.STACK


def needs_local_model(home: Home, name: str) -> bool:
    """Whether the profile's main model is answered by the stack's own server."""
    profile = profile_of(home, name)
    if profile.gateway is not Gateway.STACK:
        return False
    if profile.model is None:
        return True
    choice = routing(home).choose(profile.model)
    return choice is None or any(target.is_local for target in choice.targets[:1])


def _limits(home: Home, profile: Profile, deployed: stackfile.StackRecord | None) -> ModelLimits:
    own, model = ModelLimits(), profile.model or ""
    if deployed is not None:
        own, model = ModelLimits(deployed.n_ctx_slot or None, deployed.n_predict), profile.model or deployed.model.name
    choice = routing(home).choose(model)
    if choice is None or not choice.targets:
        return own
    target = choice.targets[0]
    if target.is_local:
        return ModelLimits(target.context or own.context, target.max_output or own.max_output)
    return ModelLimits(target.context, target.max_output)


def _key(home: Home, name: str, profile: Profile, inherited: Mapping[str, str]) -> str | None:
    if profile.token_file is not None:
        path = home.config / Path(profile.token_file).expanduser()
        if not path.exists():
            raise MissingPart(
                f"the profile {name} needs a key and there is no {path}",
                next=_key_remedy(home, profile.token_file, path),
            )
        return read_secret(path).decode("latin-1")
    if profile.token_env is not None:
        value = inherited.get(profile.token_env)
        if not value:
            raise MissingPart(f"the profile {name} takes its key from {profile.token_env}, which is not set")
        return value
    return None


def _key_remedy(home: Home, token_file: str, path: Path) -> str:
    """What stores the key: `upstream add` where an upstream takes its key from the same file."""
    for name, settings in routing(home).upstreams.items():
        if settings.api_key_file == token_file:
            return command_line("upstream", "add", name)
    folder, file = quoted(str(path.parent)), quoted(str(path))
    return f"umask 077; mkdir -p {folder}; cat > {file}   then paste the key and press ctrl-D"


def profile_of(home: Home, name: str) -> Profile:
    """Raises BadInput for a name that is not there, with the command that makes one of an upstream."""
    try:
        return find_profile(files(home), name)
    except BadInput as error:
        known = profiles(files(home))
        if name in routing(home).upstreams:
            remedy = command_line("upstream", "add", name, "--model", "NAME")
            raise BadInput(error.what, why=f"{name} is an upstream without a model", next=remedy) from None
        near = difflib.get_close_matches(name, known, 1)
        raise BadInput(
            error.what, why=error.why, next=again(None, "--profile", near[0]) if near else error.next
        ) from None


def settings_of(home: Home, name: str, environment: ClientEnvironment, ttl_s: float) -> StackSettings:
    """The same as a settings file says it: a token by a command instead of by value."""
    profile = profile_of(home, name)
    variables = {key: value for key, value in environment.variables.items() if key not in _SECRET}
    helper = profile.token_command
    if helper is not None:
        ttl_s = profile.token_ttl_s
    elif "ANTHROPIC_AUTH_TOKEN" in environment.variables:
        helper = _helper(home, profile)
    permissions = environment.settings.get("permissions", {})
    return StackSettings(variables, helper, round(ttl_s * 1000), permissions)


_SECRET = frozenset({"ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS"})


def _helper(home: Home, profile: Profile) -> str:
    if profile.token_file is not None:
        return shlex.join(["cat", str(home.config / Path(profile.token_file).expanduser())])
    if profile.token_env is not None:
        return f'printf %s "${profile.token_env}"'
    root = chosen_root()
    prefix = ["env", f"LLMSTACK_HOME={root}"] if root else []
    return shlex.join([*prefix, *own_command(), "token"])
