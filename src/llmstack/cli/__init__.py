"""The commands: each module parses one, calls the operation and hands the result to `render`."""
