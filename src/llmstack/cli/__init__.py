"""The commands: each module parses one, calls the operation and hands the result to `render`.

| module                                          | what it does |
| ----------------------------------------------- | ------------------------------------------------------------------ |
| main                                            | the group: commands load when they run, errors end here |
| group                                           | groups: other words for a command, and the one that was meant |
| options                                         | options that several commands share |
| goal                                            | the options that say what a plan should achieve |
| plan, models, model_files, model_find           | before anything runs: what fits, and the models themselves |
| catalog                                         | a newer list of known models |
| model_update                                    | a newer file of a model, and the stack on it |
| up, down, restart, uninstall                    | the stack's life |
| status, logs, doctor                            | looking at it |
| bench, tune                                     | measuring it |
| claude, env, shell_init, claude_settings, token | pointing clients at it |
| launch                                          | other agents on the stack |
| mcp                                             | the stack's model as a tool of another agent |
| key                                             | keys for others |
| upstream                                        | other places that answer |
| web_search                                      | who searches the web     |
| warm, cache                                     | the prompt cache |
| engine, engine_upgrade                          | builds of llama.cpp, and moving from one to another |
| serve_proxy                                     | what the proxy's unit runs |
"""
