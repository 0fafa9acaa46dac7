"""The model of this stack as a tool of another agent, by the Model Context Protocol on stdin and stdout.

An agent that runs on a large model elsewhere hands over what a local one does as well: reading long files, summaries,
first drafts. Nothing of it leaves the machine but the answer.

| module     | what it does                                                                       |
| ---------- | ---------------------------------------------------------------------------------- |
| files      | the files that a question is about: below one folder, within bounds                |
| question   | asks the proxy as its clients do, and tells how far it is                          |
| mcp_server | the tools that the other agent sees (needs the MCP SDK, the extra `mcp`)           |
"""
