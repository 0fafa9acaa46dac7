"""Other agents on this stack, a command each: by their environment, their inline settings, or a file of our own.

Nobody's own files are touched.

| module | what it does                                                     |
| ------ | ---------------------------------------------------------------- |
| agents | the agents: program, how to install it, how it is pointed here   |
| start  | finds one, makes what it needs, and becomes it                   |
"""
