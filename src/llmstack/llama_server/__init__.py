"""What is known of llama-server's command line, as data on the ground floor.

values  the kinds of value that a flag takes: how a user's text is read, and how a value is written
flags   one record for each flag, and the lookups by name and by field

A new flag is one record in `flags.FLAGS`. One that a plan decides also needs its field in plan.assignment.
"""
