"""Decides how a model runs on a machine: exact memory, predicted speed, and every flag with its reason.

facts = read_facts(header, path=str(path))
plan = make_plan(facts, hardware, Goal())      # raises Infeasible
plan.argv, to_json(plan)
"""

from llmstack.plan.facts import ModelFacts, read_facts
from llmstack.plan.goal import Goal, Workload
from llmstack.plan.make import make_plan
from llmstack.plan.result import Alternative, Decision, Infeasible, Plan, to_json
from llmstack.plan.speed import Predicted

__all__ = [
    "Alternative",
    "Decision",
    "Goal",
    "Infeasible",
    "ModelFacts",
    "Plan",
    "Predicted",
    "Workload",
    "make_plan",
    "read_facts",
    "to_json",
]
