"""The proxy in one process, on a clock that jumps and a network in memory: a seed decides all that happens to it.

| module   | what it does                                                                              |
| -------- | ----------------------------------------------------------------------------------------- |
| clock    | an event loop without sockets and threads, whose time is that of the next thing to happen   |
| network  | connections in memory: delays, pieces of any size, cuts at any byte, members that are mute |
| members  | upstreams of three kinds, well and badly behaved                                           |
| engine   | a llama-server with slots, states on disk, deaths, and a supervisor that starts it again    |
| clients  | those who ask: patient, slow, gone before the end, or asking the same again                |
| world    | one seed: the real proxy between both, and what must hold after every step                 |

    PYTHONPATH=tests python -m support.simulation 0-9999        # which seeds fail, and how
    PYTHONPATH=tests python -m support.simulation 4711 --trace   # one of them, step by step

What is real: gate, routes, attempts, fallback, relay, shared answers, writers, engine deaths and care, the warm start
with its files, aiohttp's client above the connection. What is not: uvicorn, the kernel, llama-server.
"""
