"""Measures the running stack, engine and proxy, and keeps what it measured.

| module      | what it does                                                                       |
| ----------- | ---------------------------------------------------------------------------------- |
| run         | the whole: what a coding agent feels, measured on the deployed stack, judged, kept |
| session     | one measurement: by depth, through the proxy, several at once, after a restart     |
| modes       | how much a run measures, and the time that it may take                             |
| depths      | prefill and decode of one engine as a conversation grows                           |
| parallel    | what all slots generate together                                                   |
| stream      | the first token of a streamed answer, as a client sees it                          |
| sample      | samples while the machine is quiet, and how quiet it was                           |
| memory      | memory in use beside what the plan counted on                                      |
| metrics     | what is measured, by the names that the history keeps                              |
| record      | one run as it is kept                                                              |
| calibrate   | the machine's rates, for the planner                                               |
| probe_model | models of any shape with made-up weights, to measure with                          |
| scratch     | an engine of one's own for a measurement                                           |
| tune        | the search for faster flags, by measuring                                          |
| quality     | what a cache type or a quantisation costs the answers                              |
"""
