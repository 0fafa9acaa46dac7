"""Other agents on this stack, a command each: by their environment, their inline settings, or a file of our own.

Nobody's own files are touched, but for `--write`, which is undone to the byte.

| module  | what it does                                                             |
| ------- | ------------------------------------------------------------------------ |
| agents  | the agents: program, how to install it, how it is pointed here           |
| start   | finds one, makes what it needs, and becomes it                           |
| lasting | which of an agent's own files `--write` changes, and what they then say  |
| written | writes that, keeps what stood there, and takes it out again              |
| jsonc   | JSON with comments, changed in its text                                  |
| lines   | TOML and YAML, changed by whole lines                                    |
"""
