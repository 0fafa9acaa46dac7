"""The proxy: Anthropic's and OpenAI's APIs in front, one or more upstreams behind.

HTTP:

| module         | what it does                                                                        |
| -------------- | ----------------------------------------------------------------------------------- |
| serve          | puts a proxy together from a home and runs it                                       |
| server         | uvicorn with the limits it lacks, readiness, watchdog, drain                        |
| tls            | the listener for other machines, with the user's certificate                        |
| app            | the FastAPI shell: paths to handlers                                                |
| api_paths      | the paths of the APIs that clients speak, and whose words an answer there is in     |
| gate           | Host, Origin, token, body limits, before anything else looks at a request           |
| callers        | who asks: the owner, or whose key it is; what that may ask for, and what it used    |
| respond        | the one way in which an answer leaves                                               |
| loop_watch     | how long the event loop stood, where and why                                        |
| line_pipe      | its lines on their way to stderr                                                    |
| report         | one log line per request, the counters of /metrics, --debug captures                |

The answer:

| module         | what it does                                                                        |
| -------------- | ----------------------------------------------------------------------------------- |
| conversations  | a request of any API from body to answer                                            |
| documents      | PDFs, read by a child process within limits of time and memory                      |
| read_documents | that child                                                                          |
| shared_answer  | one answer of the upstreams, and every client that waits for it: its states         |
| client_writer  | the sending side of one request: streamed or whole, keepalives, slow readers        |
| turns          | whose turn it is at the local server: turns go round by key                         |
| answer_service | answers a question along its route                                                  |
| fallback       | the targets of a route, tried until one has answered                                |
| attempt        | one question, tried at one upstream                                                 |
| answer_reader  | what one upstream answers, into the shared answer                                   |
| opened_tools   | tools whose schema a llama-server makes no grammar of                               |
| refused_fields | which field of a request an upstream refused                                        |
| tool_ids       | ids of tool calls                                                                   |
| plain_services | embeddings, reranking, completions of a text: passed on as they are                 |
| model_list     | the models that a caller may ask for, in the words of each API                      |
| codex_catalogue | a model as Codex wants to hear of it                                               |
| held_back      | fields of a request that a llama-server is not given                                |
| relay          | bytes passed through: Anthropic upstreams, what no neutral request can say          |
| web            | side calls for a search or a page of the web, answered without a model              |

The upstreams:

| module         | what it does                                                                        |
| -------------- | ----------------------------------------------------------------------------------- |
| live_config    | files that may change while it runs: routes, what is deployed, keys                 |
| upstreams      | the HTTP client towards the upstreams                                               |
| engine_care    | whether the local server still answers: ended when it hangs, started again          |
| engine_deaths  | requests that end the local server: noticed, and refused                            |
| death_table    | which work the server died on, and what is held against whom                        |
| preflight      | does the prompt fit, before a header is sent                                        |

The warm start:

| module         | what it does                                                                        |
| -------------- | ----------------------------------------------------------------------------------- |
| warm_starts    | the servers whose prompt caches are kept warm: a manager each                       |
| slot_server    | llama-server's endpoints for slots and tokens, for warm start and preflight         |
"""
