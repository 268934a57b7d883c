"""Text from dumps on its way to a terminal."""

from __future__ import annotations

import re

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters and those that turn the direction of text; line ends and tabs are not among them."""


def printable(text: str) -> str:
    """Return a text that can't steer a terminal: names in dumps are anyone's, and may hold escapes."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
