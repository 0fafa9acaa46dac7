"""The proxy: Anthropic's and OpenAI's APIs in front, one or more upstreams behind.

| module      | what it does                                                                        |
| ----------- | ----------------------------------------------------------------------------------- |
| server      | uvicorn with the limits it lacks, readiness, watchdog, drain                        |
| app         | the FastAPI shell: paths to handlers                                                |
| gate        | Host, Origin, token, body limits, before anything else looks at a request           |
| live        | files that may change while it runs: routes, what is deployed, keys                 |
| messages    | one /v1/messages request from body to answer                                        |
| run         | one question to the upstreams, shared by every client that asks the same            |
| attempt     | one try at one upstream                                                             |
| preflight   | does the prompt fit, before a header is sent                                        |
| warm_starts | the servers whose prompt caches are kept warm: a manager each              |
| slot_server | llama-server's endpoints for slots and tokens, for warm start and preflight         |
| relay       | bytes passed through: Anthropic upstreams, /v1/chat/completions                     |
| report      | one log line per request, the counters of /metrics, --debug captures                |
"""
