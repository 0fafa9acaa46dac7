"""A byte-level BPE tokenizer trained on a text: GPT-2's scheme, as llama.cpp's `gpt2` vocabulary reads it.

Every byte is a token, so any text can be encoded; merges make the frequent words of the training text single tokens.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise

Pair = tuple[str, str]

# Words with their leading space, runs of punctuation, runs of blanks: close to the `qwen2` pre-tokenizer, which
# splits at use. A merge that crosses its boundaries would only never be applied.
_WORD = re.compile(r" ?[^\W\d_]+|\d| ?[^\s\w]+|_+|\s+")


def byte_alphabet() -> dict[int, str]:
    """The printable stand-in of each byte (llama.cpp: unicode.cpp, unicode_byte_to_utf8)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {byte: chr(byte) for byte in printable}
    hidden = (byte for byte in range(256) if byte not in alphabet)
    alphabet.update({byte: chr(256 + number) for number, byte in enumerate(hidden)})
    return alphabet


ALPHABET = byte_alphabet()


def spell(text: str) -> str:
    """The text in the alphabet's characters, one per UTF-8 byte."""
    return "".join(ALPHABET[byte] for byte in text.encode())


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """tokens: by id, ordinary ones first; merges: by rank, halves separated by a space.

    control: tokens that stand for no text (<|im_end|>); marks: whole strings that are one token wherever they stand.
    """

    tokens: tuple[str, ...]
    merges: tuple[str, ...]
    control: tuple[str, ...]
    marks: tuple[str, ...]

    def id_of(self, text: str) -> int:
        """The id of a text that is one token. Raises ValueError if it is not."""
        return self.tokens.index(text if text in self.control + self.marks else spell(text))


def train(
    text: str,
    *,
    merges: int,
    whole_words: tuple[str, ...] = (),
    control: tuple[str, ...] = (),
    marks: tuple[str, ...] = (),
) -> Tokenizer:
    """Learns `merges` merges from the text; each of `whole_words` becomes one token first."""
    learned: list[Pair] = []
    for word in whole_words:
        parts = _apply(list(spell(word)), learned)
        while len(parts) > 1:
            learned.append((parts[0], parts[1]))
            parts = _apply(parts, learned[-1:])
    words = [
        (_apply(list(spell(word)), learned), count) for word, count in sorted(Counter(_WORD.findall(text)).items())
    ]
    learned += _frequent_pairs(words, merges - len(learned))
    alphabet = tuple(ALPHABET[byte] for byte in range(256))
    ordinary = tuple(dict.fromkeys((*alphabet, *("".join(pair) for pair in learned))))
    return Tokenizer((*ordinary, *control, *marks), tuple(" ".join(pair) for pair in learned), control, marks)


def _apply(parts: list[str], merges: list[Pair]) -> list[str]:
    for pair in merges:
        if pair[0] in parts and pair[1] in parts:  # few words hold both
            parts = _merge(parts, pair)
    return parts


def _merge(parts: list[str], pair: Pair) -> list[str]:
    merged: list[str] = []
    first, second = pair
    position, last = 0, len(parts) - 1
    while position <= last:
        if parts[position] == first and position < last and parts[position + 1] == second:
            merged.append(first + second)
            position += 2
        else:
            merged.append(parts[position])
            position += 1
    return merged


def _frequent_pairs(words: list[tuple[list[str], int]], limit: int) -> list[Pair]:
    """The most frequent pair, merged everywhere, again and again; ties go to the smaller pair, so runs agree."""
    parts_of = [parts for parts, _ in words]
    frequency: Counter[Pair] = Counter()
    words_with: defaultdict[Pair, set[int]] = defaultdict(set)
    for number, (parts, count) in enumerate(words):
        for pair in pairwise(parts):
            frequency[pair] += count
            words_with[pair].add(number)
    # A heap whose entries go stale: one counts only while it names the pair's frequency of now.
    heap = [(-count, pair) for pair, count in frequency.items()]
    heapq.heapify(heap)
    learned: list[Pair] = []
    while len(learned) < limit and heap:
        negative, best = heapq.heappop(heap)
        if frequency[best] != -negative:
            continue
        if -negative < 2:
            break
        learned.append(best)
        touched: set[Pair] = set()
        for number in words_with.pop(best):
            count = words[number][1]
            before = parts_of[number]
            after = _merge(before, best)
            parts_of[number] = after
            for pair in pairwise(before):
                frequency[pair] -= count
                touched.add(pair)
            for pair in pairwise(after):
                frequency[pair] += count
                words_with[pair].add(number)
                touched.add(pair)
        for pair in touched:
            heapq.heappush(heap, (-frequency[pair], pair))
    return learned
