"""Checks of this machine and this stack: facts are gathered, judged as data, and rendered elsewhere.

| module                                      | what it does |
| ------------------------------------------- | ---------------------------------------------------------------------- |
| facts                                       | what the checks look at, and the report: records only |
| gather                                      | all facts of one home |
| gather_machine, gather_stack, gather_client | facts of the machine, of what is deployed, of the client |
| run                                         | all checks over one set of facts |
| machine, stack, client                      | the checks themselves |
| bundle                                      | what a bug report needs, with secrets taken out |
"""
