"""llama.cpp's official prebuilt releases: which archive suits this machine, and how it becomes an engine.

| module  | what                                                                                     |
| ------- | ---------------------------------------------------------------------------------------- |
| assets  | the names of a release's archives, by pattern. Pure                                      |
| choose  | which of them a machine can run, and why not another. Pure                               |
| host    | what of this machine decides that: C library, cards, driver                              |
| api     | what GitHub says of a release, and its refusals in words                                 |
| digests | which bytes were seen under which name                                                   |
| unpack  | an archive's programs and libraries, and nothing else, into a folder                     |
| install | all of it: from nothing to an engine in use                                              |
"""
