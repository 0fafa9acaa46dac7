"""Anthropic Messages on one side, chat completions on the other, and nothing that touches a socket.

| module            | bytes in, values out                                                           |
| ----------------- | ------------------------------------------------------------------------------ |
| anthropic         | the request as the client sends it, the events and the message it gets back    |
| chat              | the chunks an upstream sends                                                   |
| request           | MessagesRequest -> the upstream's body                                         |
| conversation      | its messages, one after the other                                              |
| told              | what no chat completion has a place for, in words                              |
| dialect           | what one upstream understands                                                  |
| content           | content blocks as the parts of a chat message                                  |
| document          | a document as text                                                             |
| images            | what is wrong with an image before a server reads it                           |
| tool_changes      | which tools a conversation has by now                                          |
| loaded_tools      | tools that a client loads on its way, called by name                           |
| tools             | tools as functions, and Anthropic's own                                        |
| grammatical       | a schema as llama.cpp can make a grammar of it                                 |
| volatile_lines    | the lines of a system text that differ between directories and days            |
| pdf               | the text of a PDF, for models that read text only                              |
| replay            | what the model really generated, by tool_use id                                |
| count             | how many tokens a prompt can have at most, without asking                      |
| stream            | ChatChunk -> events: START -> IDLE <-> OPEN -> FINISHING -> DONE               |
| reading           | how far a prompt is read, as thinking that a client shows                      |
| stream_states     | its states and the moves between them                                          |
| stream_settings   | what a stream must know of its request                                         |
| calls             | which piece of an upstream's tool calls belongs to which                       |
| inline_tool_calls | tool calls that a model wrote into its text                                    |
| leaked_call       | such a call, read whole                                                        |
| json_text         | JSON in pieces: where it ends, and whether it is whole                         |
| repair            | tool arguments against their schema, while they stream                         |
| schema            | what a tool's JSON schema says about a value                                   |
| usage             | usage and stop reasons                                                         |
| metering          | tokens of an answer that is passed through, as its upstream reports them       |
| sse               | server-sent events, both ways                                                  |
| message           | the events of a stream as one whole message                                    |
| limits            | how much of anything may come from outside                                     |
| errors            | what went wrong, in Anthropic's and in OpenAI's words                          |
| server_tools      | side calls for tools of Anthropic's servers, answered without a model          |
| web               | searches and pages of the web, as far as no socket is needed                   |
| passed_stream     | a stream that is passed on: event by event, with one end                       |
| clients           | the APIs that clients speak, in and out of the neutral words                   |
"""
