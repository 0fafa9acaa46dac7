"""What a dying llama-server writes last, picked out of its log so that it can be shown to anybody."""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST_CHARACTERS = 160
# ggml.c (GGML_ASSERT, GGML_ABORT), ggml-cuda.cu, the C and C++ libraries' own last lines. Nothing else of the log is
# shown: with --verbose it has prompts in it.
_FATAL = re.compile(
    r"GGML_ASSERT|GGML_ABORT|(?:CUDA|ROCm|SYCL|Vulkan|MUSA|CANN|Metal) error|vk::\w+Error|DeviceLost|terminate called"
    r"|what\(\):|Assertion .* failed|out of memory|[Ss]egmentation fault|stack smashing|double free|corrupted size"
)
_QUOTED = re.compile(r"; last read: .*|<U\+[0-9A-F]+>.*")  # nlohmann::json quotes what it could not read


def last_words(lines: Iterable[str], secrets: Iterable[str] = ()) -> str:
    """Its last two fatal lines; "" when it wrote none. secrets: never shown."""
    fatal = [line for line in lines if _FATAL.search(line) and not line.startswith("llmstack: ")]
    words = []
    for line in dict.fromkeys(fatal[-2:]):
        text = _QUOTED.sub("", "".join(letter for letter in line if letter.isprintable())).strip()
        for secret in secrets:
            text = text.replace(secret, "[redacted]") if secret else text
        words.append(text[:MOST_CHARACTERS])
    return "; ".join(words)
