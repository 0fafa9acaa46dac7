"""Decides how a model runs on a machine: exact memory, predicted speed, and every flag with its reason.

facts = read_facts(header, path=str(path))
plan = make_plan(facts, hardware, Goal())      # raises Infeasible
plan.argv, to_json(plan)

| module        | what it does                                                    |
| ------------- | --------------------------------------------------------------- |
| facts         | a model: one record per block                                   |
| architectures | what distinguishes one architecture from another: a record each |
| tensors       | the tensor table by block                                       |
| goal          | what the user wants                                             |
| client_room   | whether a coding agent's first request fits                     |
| kv_quality    | what a smaller cache costs, and what a finer one is worth       |
| pins          | what `--set` may fix, checked before the search                 |
| assignment    | one complete choice of flags                                    |
| budget        | how much memory may be used                                     |
| memory        | what an assignment takes, per device and on the host            |
| compute       | compute buffers: the peak of the live tensors                   |
| graph         | llama.cpp's graph of a model's blocks, replayed                 |
| companions    | files that only guess ahead for one large model                 |
| drafting      | whether and how far a second file may guess ahead               |
| allocator     | ggml's graph allocator, replayed                                |
| projector     | an image encoder: its header, and the memory it takes           |
| projector_graph | its graph, replayed                                           |
| host_rows     | what runs on the host                                           |
| speed         | what limits each step, added up                                 |
| rates         | its constants                                                   |
| ranges        | how far a predicted speed may be off                            |
| card_memory   | what a card of a name has of memory                             |
| cards         | known accelerators, and what kernels reach on each generation   |
| devices       | which of the listed devices a plan may use                      |
| splits        | how a model is divided among several                            |
| calibrate     | the speed model fitted to what was measured                     |
| search        | the fastest assignment that keeps the budgets                   |
| trades        | what else could be had                                          |
| make          | from a model, a machine and a goal to a plan, or a refusal      |
| reasons       | the words for all of it                                         |
| result        | a finished plan, as data                                        |
| training_length | how long a slot's context may be, and what YaRN makes of it   |
| vision        | with the image encoder, or without it                           |
| argv          | a plan as llama-server's argument list                          |
| explain       | the long answer about one flag                                  |
| compare       | a plan beside --fit, and beside what a binary reports           |
"""

from llmstack.plan.facts import ModelFacts, read_facts
from llmstack.plan.goal import Goal, Workload
from llmstack.plan.make import make_plan
from llmstack.plan.projector import ProjectorFacts, projector_of_size, read_projector
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
    "ProjectorFacts",
    "Workload",
    "make_plan",
    "projector_of_size",
    "read_facts",
    "read_projector",
    "to_json",
]
