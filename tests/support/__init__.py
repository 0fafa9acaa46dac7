"""What the tests and the benchmarks share: a running stack, a proxy alone, scripted upstreams, made-up models.

| module                        | what it gives                                                                        |
| ----------------------------- | ------------------------------------------------------------------------------------ |
| stack                         | Stack: an LLMSTACK_HOME with ports of its own, run through the command line          |
| proxy_stand, proxy_fixtures   | ProxyStand: a proxy process without an engine, and the fixtures that hold one        |
| upstream                      | Upstream: a chat completions server that does what a test tells it, byte for byte    |
| hosts, hub                    | clouds, local servers and the model hub, as loopback servers                         |
| streams, stream_replay        | recorded answers, and what each must become                                          |
| claude_code, litellm          | the real programs, installed once per machine                                        |
| long_silence                  | the real clients and an upstream that is silent for 700 s, beside the other tests    |
| agents                        | the agents that `launch` starts: how each is installed, asked, and answered          |
| programs, built_engine        | how the real programs and the real engine get into the user's cache folder           |
| talker, tool_session          | a client with a long system text; a conversation of tool calls                       |
| planner                       | shapes of real models, random machines, llama-server's own report of its memory      |
| models, model_bytes, shards   | small models that run; files that only look like models; a model in several files    |
| user_manager, crash           | a real systemd --user; a command killed before its N-th effect                       |
| bench_runs, help_texts        | bench runs and llama-server's --help, made up                                        |
| wait                          | eventually, free_port, is_open                                                       |
| paths                         | where the checkout, its locks and its documents are                                  |
| named_tests                   | whether a test that a document names is there                                        |
| sources                       | the tree as syntax: modules, imports, variables                                      |
| world                         | the guard of the unit tests: no process, no socket, no sleep                         |
"""
