"""Anthropic Messages on one side, chat completions on the other, and nothing that touches a socket.

| module     | bytes in, values out                                                            |
| ---------- | ------------------------------------------------------------------------------- |
| anthropic  | the request as the client sends it, the events and the message it gets back     |
| chat       | the chunks an upstream sends                                                    |
| request    | MessagesRequest -> the upstream's body (with content, tools, fold, schema)      |
| stream     | ChatChunk -> events: START -> IDLE <-> OPEN -> FINISHING -> DONE                 |
| calls      | which piece of an upstream's tool calls belongs to which                        |
| figures    | usage and stop reasons                                                          |
| leak       | tool calls that a model wrote into its text                                     |
| repair     | tool arguments against their schema, while they stream                          |
| sse        | server-sent events, both ways                                                   |
| errors     | what went wrong, in Anthropic's and in OpenAI's words                           |
| count      | how many tokens a prompt can have at most, without asking                       |
| reverse    | chat completions clients in front of an Anthropic upstream                      |
| replay     | what the model really generated, by tool_use id                                 |
"""
