"""A fault at every step of every command: each effect on the disk, in turn, with each outcome.

| module  | what it does                                                                       |
| ------- | ---------------------------------------------------------------------------------- |
| effects | counts what a process does to the disk, and makes one step of it fail                |
| scenes  | every command of the program, with the home that it is run in                        |
| harness | plays a scene with a fault, runs the command again, and looks at what is there       |

    PYTHONPATH=tests python -m support.every_step            # every step of every command, and the table for docs
    PYTHONPATH=tests python -m support.every_step "upstream add"

A new command has a scene, or a line in `scenes.READS`: a test compares both with what is registered.
"""
