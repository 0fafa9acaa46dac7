"""models.toml as data: the shipped file, a fetched one, the user's own, laid over each other. Pure.

| module   | what it does                                                  |
| -------- | ------------------------------------------------------------- |
| overlay  | reads the files, lays them over each other, names their lines |
| models   | the models a person can name                                  |
| fetched  | what a catalog from elsewhere may say, and what it changes    |
| shape    | a model's header from a few dimensions                        |
| quants   | which type a maker of quants gives each tensor                |
| routes   | which name of a request goes to which upstream                |
| profiles | what a client is told, by the name of a setup                 |
"""
