"""Constraints on the features of a node: `fast`, `a&b`, `a|b`, `(a|b)&c` (sbatch -C).

Of Slurm's grammar this is what decides about one node.  Left out, and refused by name: counts (`a*2`) and
sets of alternatives for several nodes (`[a|b]`).  As Slurm evaluates a mix without brackets from left to
right, which nobody expects, `a|b&c` has to be written with brackets.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

INVALID_FEATURE: Final = "Invalid feature specification"  # after "Batch job submission failed: "
_SPECIAL: Final = frozenset("&|()")
_REFUSED: Final = {
    "*": "a count of nodes (*) is not supported",
    "[": "a set of alternatives ([a|b]) is not supported; a|b asks for either",
    "]": "a set of alternatives ([a|b]) is not supported; a|b asks for either",
    ",": "features are joined by & (both) or | (either)",
    "!": "a feature that must be absent (!) is not supported",
}
_ALTERNATIVES_MAX: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """Sets of features, one of which a node must have complete."""

    alternatives: tuple[frozenset[str], ...]

    def holds(self, features: AbstractSet[str]) -> bool:
        """Return whether a node with these features will do."""
        return any(wanted <= features for wanted in self.alternatives)

    def names(self) -> frozenset[str]:
        """Return every feature that is mentioned."""
        return frozenset().union(*self.alternatives)


@lru_cache(maxsize=1024)  # asked for each node by each pass, with few different texts
def parse_constraint(text: str) -> Constraint:
    """Return what a constraint asks of a node.

    Raises:
        ValueError: why; Slurm itself only says INVALID_FEATURE.

    """
    parser = _Parser(_split_tokens(text))
    alternatives = parser.parse_choice()
    if parser.tokens:
        raise ValueError(f"{text!r}: unexpected {parser.tokens[0]!r}")
    return Constraint(alternatives=tuple(dict.fromkeys(alternatives)))


class _Parser:
    """Takes tokens off the front; both operators yield a list of alternatives."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens

    def parse_choice(self) -> list[frozenset[str]]:
        found = self._parse_one()
        had_or = False
        while self.tokens and self.tokens[0] in "&|":
            operator = self.tokens.pop(0)
            right = self._parse_one()
            if operator == "|":
                had_or = True
                found = found + right
            elif had_or:
                raise ValueError("& after | needs brackets: (a|b)&c or a|(b&c)")
            else:
                found = [left | more for left in found for more in right]
            if len(found) > _ALTERNATIVES_MAX:
                raise ValueError("too many alternatives")
        return found

    def _parse_one(self) -> list[frozenset[str]]:
        word = self.tokens.pop(0) if self.tokens else ""
        if word == "(":
            found = self.parse_choice()
            if not self.tokens or self.tokens.pop(0) != ")":
                raise ValueError("a bracket is not closed")
            return found
        if not word or word in _SPECIAL:
            raise ValueError("a feature is missing" + (f" before {word!r}" if word else " at the end"))
        return [frozenset((word,))]


def _split_tokens(text: str) -> list[str]:
    tokens: list[str] = []
    name = ""
    for letter in text.strip():
        if letter in _REFUSED:
            raise ValueError(f"{text!r}: {_REFUSED[letter]}")
        if letter.isspace():
            raise ValueError(f"{text!r}: a blank inside a constraint")
        if letter not in _SPECIAL:
            name += letter
            continue
        if name:
            tokens.append(name)
        tokens.append(letter)
        name = ""
    tokens += [name] if name else []
    depth = 0
    for word in tokens:
        depth += (word == "(") - (word == ")")
        if depth > 16:
            raise ValueError("brackets are nested too deep")
    return tokens
