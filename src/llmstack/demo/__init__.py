"""A small GGUF made on the spot, so that the whole stack can be tried with nothing downloaded."""

from llmstack.demo.model import SENTENCE, build_model

__all__ = ["SENTENCE", "build_model"]
