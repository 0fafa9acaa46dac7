"""What a cache type, or a quantisation, costs a model's answers: measured on the user's own model.

| module        | what it does                                                              |
| ------------- | ------------------------------------------------------------------------- |
| run           | the whole: an engine for each cache type, compared with f16, kept         |
| distributions | the next token's likelihoods at many places of a text, and their distance |
| tasks         | tool calls with one right answer, scored exactly                          |
| intervals     | what samples say of a mean and of a share                                 |
| record        | one run as it is kept                                                     |
"""
