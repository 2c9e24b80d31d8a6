"""py-rattler's explanations, which are trees of lines, as one sentence."""

import re

_TOP = re.compile(r"^[├└]─+ ?(.+)$")
_REASON = "because of: "
_ENDS = " .,:;"


def no_solution(text: str) -> str:
    """Return why there is no solution: the first line, and the requirements that do not go together."""
    lines = text.strip().splitlines()
    reason = lines[0].partition(_REASON)[2] or lines[0]
    tops = [match[1].split(" can be installed", 1)[0] for line in lines[1:] if (match := _TOP.match(line))]
    sentence = reason.rstrip(_ENDS)
    return f"{sentence}: {'; '.join(top.rstrip(_ENDS) for top in tops)}" if tops else sentence


def first_sentence(text: str) -> str:
    """Return an error, or that of its causes which names an address, and the last cause. Each is a line."""
    lines = [line.strip().removeprefix("Caused by:").strip() for line in text.strip().splitlines() if line.strip()]
    if not lines:
        return "py-rattler says nothing"
    first = next((line for line in lines if "://" in line), lines[0])
    return ": ".join(dict.fromkeys([first, lines[-1]]))
