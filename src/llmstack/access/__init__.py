"""Who may use the proxy besides its owner: a key each for the people of a household or a team.

| module | what it does                                                                  |
| ------ | ----------------------------------------------------------------------------- |
| keys   | a key and its limits, and when it counts                                      |
| book   | the file of all keys: read by the proxy while it runs, changed by `key`       |
| use    | what each key used today, written by the proxy and read by `key list`         |
| listed | both together, as `key list` and `status` show them                           |
"""
