"""The engines: llama-server binaries and the embedded one, with one command line for all of them.

find       which engines are here, and which one is in use
choose     switches between them, and back
probe      what a binary says of itself: version, flags, devices
flags      reads a `--help`, and makes an argv fit the build that gets it
install    builds the pinned source package; toolchain checks the compilers, explain words a failed build's log,
           smoke tests a fresh build before it gets its name
embedded   the engine inside the xllamacpp wheel, behind llama-server's command line
control    the HTTP client of a running engine
"""
