"""Everything that only a card can show, measured in one go: `benchmarks/gpu/run PHASE… --out DIR`.

A card may be at hand for minutes, on a bare machine without a network. So each phase ends within its minutes, writes
one JSON file row by row, and goes on where it was cut off when it is called again.

| module  | what it does                                                                              |
| ------- | ----------------------------------------------------------------------------------------- |
| phases  | the phases, in their order, as data                                                       |
| results | one JSON file a phase, a row at a time                                                    |
| bed     | the device, the engine and the machine that are measured                                  |
| cuda    | the driver itself: memory held on purpose, the link's speed                               |
| pack    | what a bare machine without a network lacks, under 60 MiB                                 |
| build   | the engine for the card that is there                                                     |
| models  | files of real shapes and types, with made-up weights                                      |
| memory  | the plan's memory against what the card says                                              |
| speed   | the plan's speeds, beside --fit's choice and an article's; the rates fitted, then judged  |
| stack   | the whole stack on it: up, a session, a restart, tune, bench                              |
| report  | all of it as one page                                                                     |
"""
