"""A profile's environment as it is now: read from models.toml, the record of what is deployed, and the key files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from llmstack import stackfile
from llmstack.catalog import overlay, routes
from llmstack.catalog.profiles import Gateway, Profile
from llmstack.catalog.profiles import profile as find_profile
from llmstack.client.environment import ClientEnvironment, ModelLimits, StackAccess, claude_environment
from llmstack.client.settings import StackSettings
from llmstack.client.tiers import routed_tiers
from llmstack.commands import command_line
from llmstack.deploy import keys
from llmstack.errors import MissingPart, NotSo
from llmstack.paths import Home, catalog_texts, chosen_root, own_command
from llmstack.proxy.live_config import read_secret

DEFAULT = "local"


def files(home: Home) -> overlay.Overlay:
    """models.toml, the user's over the shipped one. Raises BadInput with the line of what is wrong."""
    return overlay.load(catalog_texts(home))


def routing(home: Home) -> routes.Routing:
    """Raises BadInput for a models.toml that the proxy would not take either."""
    return routes.read(files(home))


def environment_of(home: Home, name: str, inherited: Mapping[str, str]) -> ClientEnvironment:
    """Raises NotSo when nothing is deployed and the profile needs it, BadInput, MissingPart for a key."""
    profile = find_profile(files(home), name)
    if profile.gateway is not Gateway.STACK:
        return claude_environment(name, profile, inherited, key=_key(home, name, profile, inherited))
    deployed = stackfile.read(home)
    if deployed is None:
        raise NotSo(
            "nothing is deployed yet", next=f"{command_line('up', 'MODEL')}   or   {command_line('up', '--demo')}"
        )
    stack = StackAccess(deployed.proxy.url, keys.token(home), deployed.model.name)
    limits, tiers = _limits(home, profile, deployed), routed_tiers(routing(home))
    return claude_environment(name, profile, inherited, stack=stack, limits=limits, tiers=tiers)


def leads_to_stack(home: Home, name: str) -> bool:
    return find_profile(files(home), name).gateway is Gateway.STACK


def needs_local_model(home: Home, name: str) -> bool:
    """Whether the profile's main model is answered by the stack's own server."""
    profile = find_profile(files(home), name)
    if profile.gateway is not Gateway.STACK:
        return False
    if profile.model is None:
        return True
    choice = routing(home).choose(profile.model)
    return choice is None or any(target.is_local for target in choice.targets[:1])


def _limits(home: Home, profile: Profile, deployed: stackfile.StackRecord) -> ModelLimits:
    own = ModelLimits(deployed.n_ctx_slot or None, deployed.n_predict)
    choice = routing(home).choose(profile.model or deployed.model.name)
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
                next=f"umask 077; mkdir -p '{path.parent}'; cat > '{path}'   then paste the key and press ctrl-D",
            )
        return read_secret(path).decode("latin-1")
    if profile.token_env is not None:
        value = inherited.get(profile.token_env)
        if not value:
            raise MissingPart(f"the profile {name} takes its key from {profile.token_env}, which is not set")
        return value
    return None


def settings_of(home: Home, name: str, environment: ClientEnvironment, ttl_s: float) -> StackSettings:
    """The same as a settings file says it: a token by a command instead of by value."""
    profile = find_profile(files(home), name)
    variables = {key: value for key, value in environment.variables.items() if key not in _SECRET}
    helper = profile.token_command
    if helper is not None:
        ttl_s = profile.token_ttl_s
    elif "ANTHROPIC_AUTH_TOKEN" in environment.variables:
        helper = _helper(home, profile)
    return StackSettings(variables, helper, round(ttl_s * 1000))


_SECRET = frozenset({"ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS"})


def _helper(home: Home, profile: Profile) -> str:
    if profile.token_file is not None:
        return shlex.join(["cat", str(home.config / Path(profile.token_file).expanduser())])
    if profile.token_env is not None:
        return f'printf %s "${profile.token_env}"'
    root = chosen_root()
    prefix = ["env", f"LLMSTACK_HOME={root}"] if root else []
    return shlex.join([*prefix, *own_command(), "token"])
