"""models.toml as data: the shipped file, a fetched one, the user's own, laid over each other. Pure.

| module      | what it does                                                  |
| ----------- | ------------------------------------------------------------- |
| overlay     | reads the files, lays them over each other, names their lines |
| models      | the models a person can name, checked                         |
| fetched     | what a catalog from elsewhere may say, and what it changes    |
| licenses    | which licences ask for nothing but a notice                   |
| shape       | a model's header from a few dimensions                        |
| quants      | which type each tensor of a quantised file has                |
| shape_check | whether the dimensions are those of a file                    |
| routes      | upstreams, and which one answers a requested model name       |
| profiles    | client environments by name                                   |
"""
