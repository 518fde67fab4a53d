"""Paths of actions: which of them a rule means, and what stands in them under its names."""

import re
from collections.abc import Callable, Sequence
from operator import attrgetter, itemgetter
from typing import Any

_CAPTURE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LITERAL = re.compile(r"[\w!$&'()+,:=@~.-]+", re.ASCII)
# A segment that means itself in every reading.
_SEGMENT = rb"[A-Za-z0-9_~-][A-Za-z0-9._~-]*+"
PLAIN_REST = rb"(?:%b(?:/|\Z))*+\Z" % _SEGMENT
"""A pattern: any segments like that, to the end of the path."""

Captured = Sequence[bytes]


class Template:
    """A path with `{name}` for single segments, perhaps with `/*` at its end for any rest.

    ValueError says what is wrong with it.
    """

    __slots__ = ("_captures", "_literals", "_pick", "fixed", "length", "names", "open", "plainly")

    def __init__(self, text: str) -> None:
        if not text.startswith("/"):
            raise ValueError("should begin with /")
        segments = text[1:].split("/") if text != "/" else []
        self.open = bool(segments) and segments[-1] == "*"
        if self.open:
            segments.pop()
        self.fixed: dict[int, bytes] = {}
        self._captures: list[int] = []
        self.names: list[str] = []
        for index, segment in enumerate(segments):
            if capture := _CAPTURE.fullmatch(segment):
                self._captures.append(index)
                self.names.append(capture[1])
            elif _LITERAL.fullmatch(segment) and segment not in (".", ".."):
                self.fixed[index] = segment.encode()
            else:
                raise ValueError("should be plain segments and {names}, with /* at the end at most")
        self.length = len(segments)
        if len(set(self.names)) != len(self.names):
            raise ValueError("holds one {name} twice")
        # one comparison for all literal segments
        self._pick: Callable[[Any], Any] = itemgetter(*self.fixed) if self.fixed else tuple
        self._literals = self._pick(self.fixed)
        parts = [
            re.escape(self.fixed[at]) if at in self.fixed else b"(%b)" % _SEGMENT for at in range(self.length)
        ]
        closed = rb"/?\Z" if parts else rb"\Z"
        rest = rb"(?:/|\Z)" + PLAIN_REST if parts else PLAIN_REST
        self.plainly = b"/".join(parts) + (rest if self.open else closed)
        """What fits the rest of a plain path behind its first slash, with a group per name."""

    def match(self, segments: Sequence[bytes]) -> Captured | None:
        """What was captured from decoded segments; None when they are another path."""
        length = len(segments)
        if length != self.length and not (self.open and length > self.length):
            return None
        if self.fixed and self._pick(segments) != self._literals:
            return None
        return [segments[index] for index in self._captures]

    def meets(self, other: "Template") -> bool:
        """Whether a path may fit both."""
        short, long = sorted((self, other), key=attrgetter("length"))
        if short.length < long.length and not short.open:
            return False
        return all(long.fixed.get(at, literal) == literal for at, literal in short.fixed.items())

    def reaches(self, prefix: str) -> bool:
        """Whether a path below this prefix of a route can match."""
        wanted = [segment.encode() for segment in prefix.split("/") if segment]
        if len(wanted) > self.length and not self.open:
            return False
        return all(self.fixed.get(index, segment) == segment for index, segment in enumerate(wanted))
