"""Claude Code and other clients: the environment that points them at this stack.

| module         | what it does                                                                            |
| -------------- | --------------------------------------------------------------------------------------- |
| environment    | the environment for Claude Code: what to set, what to take away, which arguments to add |
| shell_change   | what `env` changes in a shell, and what gives the shell back what it had                |
| profile        | a profile's environment as it is now                                                    |
| claude_code    | finds Claude Code and becomes it                                                        |
| tiers          | which names opus, sonnet and haiku go out under                                         |
| settings       | writes this stack into a Claude Code settings file, and takes it out again              |
| users_file     | a file of the user's that is written into: read, written whole, behind a link           |
| record         | learns what Claude Code sends first                                                     |
| upstream_add   | what was given, what is known of a shipped upstream, and questions for the rest         |
| upstream_file  | writes an upstream into the user's models.toml                                          |
| upstream_keys  | whether an upstream has its key                                                         |
| web_setup      | who searches the web for side calls                                                     |
| reachable      | whether somebody listens where a profile's requests will go                             |
| upstream_check | whether an upstream is of any use to Claude Code                                        |
| outside        | what this program left outside its own folders                                         |
| ollama         | Ollama's own API, for what its OpenAI API cannot do                                     |
"""
