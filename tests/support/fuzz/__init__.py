"""Anything from outside, by seed: it is read, or refused in words, and nothing else.

| module    | what is made up                                                                    |
| --------- | ---------------------------------------------------------------------------------- |
| headers   | bytes of a GGUF header, as far as the plan's command line and its unit               |
| streams   | what an upstream sends, split anywhere, and the order of its events                  |
| bodies    | JSON bodies of both dialects, as far as what an upstream would be sent               |
| grown     | requests and texts of megabytes: what stops the event loop                           |
| texts     | arguments and variables of units, entries and whole files of models.toml             |

    PYTHONPATH=tests python -m support.fuzz              # each for a minute, from a seed of its own
    PYTHONPATH=tests python -m support.fuzz bodies 4711   # one seed again
"""
