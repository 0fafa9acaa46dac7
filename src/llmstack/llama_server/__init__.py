"""What is known of llama-server's command line, requests and log, as data on the ground floor.

A new flag is one record in `flags.FLAGS`. One that a plan decides also needs its field in plan.assignment.

| module     | what it does                                                      |
| ---------- | ----------------------------------------------------------------- |
| flags      | one record for each flag, and the only list of them               |
| values     | the kinds of value: read from a user's text, written into an argv |
| request_fields | which fields of a client's request reach llama-server         |
| last_words | what of a dying engine's log may be shown                         |
"""
