"""A plan as llama-server's argument list: explicit, so that no default of another build changes it."""

from __future__ import annotations

from llmstack.plan.assignment import Assignment, of_drafter
from llmstack.plan.facts import Facts
from llmstack.plan.goal import Goal

# Every flag that `flags` can emit. -m, -mm and -a take text; those of FLAGS_WITHOUT_VALUE take nothing.
FLAGS = (
    "-m", "-a", "-c", "-np", "-ngl", "-ncmoe", "-ncffn", "-nkvo", "-ctk", "-ctv", "-fa", "-b", "-ub", "-lm",
    "-cram", "-ctxcp", "--swa-full", "-ts", "-t", "-n", "-rea", "--jinja", "--fit", "--spec-type",
    "--spec-draft-n-max", "-mm", "-dev", "--reasoning-budget",
    "--no-repack", "-kvu", "-md", "-ngld", "-ctkd", "-ctvd", "--spec-draft-p-min",
)  # fmt: skip
FLAGS_WITHOUT_VALUE = frozenset({"-nkvo", "-kvu", "--swa-full", "--jinja", "--no-repack"})


def flags(facts: Facts, a: Assignment, goal: Goal) -> tuple[str, ...]:
    """Arguments in the order a person reads them: model, context, placement, cache, the rest."""
    parts: list[str] = ["-m", facts.path]
    if goal.alias:
        parts += ["-a", goal.alias]
    parts += ["-c", str(a.ctx), "-np", str(a.parallel)]
    if a.kv_unified:
        parts += ["-kvu"]
    parts += ["-ngl", str(a.ngl)] if a.ngl or not a.has_gpu else ["-ngl", "0", "-dev", "none"]
    if a.ncmoe:
        parts += ["-ncmoe", str(a.ncmoe)]
    if a.ncffn:
        parts += ["-ncffn", str(a.ncffn)]
    if a.nkvo:
        parts += ["-nkvo"]
    if a.split:
        parts += ["-ts", ",".join(f"{share:.4g}" for share in a.split)]
    parts += ["-ctk", a.type_k, "-ctv", a.type_v, "-fa", "on", "-b", str(a.batch), "-ub", str(a.ubatch)]
    parts += ["-lm", a.load_mode, "-cram", str(a.cache_ram_mib), "-ctxcp", str(a.checkpoints)]
    if a.swa_full:
        parts += ["--swa-full"]
    if a.block_guesses:
        parts += ["--spec-type", "draft-mtp", "--spec-draft-n-max", str(a.draft_max)]
    if a.model_guesses and goal.draft is not None:
        second = of_drafter(a, layers=goal.draft.n_layer_all + 1)
        parts += ["--spec-type", "draft-simple", "-md", goal.draft.path, "-ngld", str(second.ngl)]
        parts += ["-ctkd", second.type_k, "-ctvd", second.type_v]
        parts += ["--spec-draft-n-max", str(a.draft_max), "--spec-draft-p-min", "0"]
    if goal.mmproj_path:
        parts += ["-mm", goal.mmproj_path]
    if a.no_repack:
        parts += ["--no-repack"]
    if a.threads:
        parts += ["-t", str(a.threads)]
    parts += ["-n", str(goal.n_predict), "-rea", goal.reasoning]
    if goal.reasoning == "off" and facts.template_ignores_switch:
        parts += ["--reasoning-budget", "0"]
    parts += ["--jinja", "--fit", "off"]
    return (*parts, *goal.extra)
