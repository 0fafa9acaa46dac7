"""models.toml as data: models, upstreams, routes and client profiles; the shipped file and the user's over it. Pure.

| module      | what it does                                                  |
| ----------- | ------------------------------------------------------------- |
| overlay     | reads the files, lays the user's over the shipped one         |
| models      | the models a person can name, checked                         |
| licenses    | which licences ask for nothing but a notice                   |
| shape       | a model's header from a few dimensions                        |
| quants      | which type each tensor of a quantised file has                |
| shape_check | whether the dimensions are those of a file                    |
| routes      | upstreams, and which one answers a requested model name       |
| profiles    | client environments by name                                   |
"""
