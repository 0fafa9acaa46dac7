"""Reads what this machine is and what a model file holds.

| module      | what it does                                                 |
| ----------- | ------------------------------------------------------------ |
| hardware    | the machine: GPUs, RAM, processor                            |
| drivers     | what all drivers tell of the devices that an engine lists    |
| driver_cards | records of that                                             |
| nvml        | the one reader of NVML                                       |
| amdgpu      | AMD's cards in /sys, and their processes in /proc            |
| held        | how much of all cards a process holds                        |
| holders     | which programs hold memory of a card now                     |
| bandwidth   | a two-second measurement of memory and of the link to a card |
| calibration | what was measured on this machine, kept                      |
| pace        | how fast the machine is at this moment                       |
| load        | what else it does meanwhile                                  |
| model_file  | opens a model on disk, all its shards                        |
| dry_run     | asks llama-server what an argument list would take           |
"""
