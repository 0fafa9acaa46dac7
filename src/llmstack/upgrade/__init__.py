"""`engine upgrade`: another engine proves itself on the deployed model before the stack moves to it.

| module    | what                                                                                    |
| --------- | --------------------------------------------------------------------------------------- |
| trial     | a stack of its own: an engine and a proxy on free ports, in a home of its own             |
| toolset   | the tools that are offered: the client's own, large ones, schemas that broke grammars     |
| messages  | one message through the trial's proxy, and what came back                                |
| examine   | the questions, put to one engine: what it did and how fast                               |
| proofs    | two examinations, the engine of now and the new one, turned into proofs. Pure            |
| run       | makes room, examines both, judges, and switches; and goes back                           |
"""
