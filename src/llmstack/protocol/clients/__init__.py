"""The APIs that clients speak: each enters as one neutral request and leaves as one neutral stream.

Neutral is Anthropic's Messages API: it has names for everything the others say. A request of another API becomes the
body of a Messages request, and the events of its answer are written in the client's own words.

| module            | what it says                                                                   |
| ----------------- | ------------------------------------------------------------------------------ |
| asked             | a request, whatever its API: what every client's side must be able to say      |
| messages          | Anthropic's Messages: as they are                                              |
| neutral           | what clients of OpenAI's APIs say alike                                        |
| chat_request      | a chat completion's request as the body of a Messages request                  |
| chat_answer       | the events of an answer as chunks of a completion, or as a whole one           |
| responses_request | a Responses request as the body of a Messages request                          |
| responses_tools   | its tools: namespaces, tools that take a text, those of OpenAI's servers       |
| responses_answer  | the events of an answer as those of a response, or as a whole one              |
| responses_store   | responses that a later request may go on from                                  |
| gemini_request    | a request of the Gemini API as the body of a Messages request                  |
| gemini_answer     | the events of an answer as those of Gemini's stream, or as a whole response    |
| relayed           | an Anthropic upstream's bytes as the events that a client's side writes        |
"""
