"""Results to text or JSON. The only package that prints.

| module                           | what it does                                 |
| -------------------------------- | -------------------------------------------- |
| output                           | where output goes; colour only on a terminal |
| fitted                           | lines that fit the terminal                  |
| plan, models, found, catalog     | before anything runs                         |
| engine                           | builds of llama.cpp                          |
| catalog_page                     | the tables of docs/models.md                 |
| upgrade                          | what a new engine proved                     |
| stack, status, logs, folding     | the running stack; logs made readable        |
| bench, report, tune, quality     | figures on the terminal, and the page        |
| doctor                           | one line per finding, then its remedy        |
| cache                            | saved states and the warm start              |
| shell, claude_settings, upstream | what clients get                             |
| web_search                       | who searches the web, and what was found     |
| launch                           | agents that can be started here              |
| key                              | a new key once, and the list without any     |
| uninstall                        | what was removed                             |
"""
