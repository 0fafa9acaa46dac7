"""Searches and pages of the web for side calls that need no model: what is asked, and how it is answered.

| module   | what it does                                                              |
| -------- | ------------------------------------------------------------------------- |
| calls    | which request is such a side call, and what it wants                       |
| domains  | allowed and blocked domains                                               |
| address  | addresses of pages, and which machines may be reached                     |
| hits     | texts and addresses of strangers, made fit to be shown                    |
| services | SearXNG, Brave, Tavily, a command: how each is asked, what it answers     |
| answers  | the events of an answer                                                   |
| refusal  | why there is none                                                         |
"""
