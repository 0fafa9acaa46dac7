"""Shapes of real models as sparse files, and the real llama.cpp as the judge of the memory model."""
