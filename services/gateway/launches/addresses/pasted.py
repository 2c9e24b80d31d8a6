"""What people paste: an address, perhaps in the middle of a text, and perhaps with a ref beside it."""

import re
from dataclasses import dataclass, replace

from services.common.models.errors import BinderyError
from services.common.service.redaction import quotable

_WEB = r"(?<![A-Za-z0-9+.-])(?:git\+)?(?:https?|ssh|git):/+(?:\[[0-9a-f:.]+\])?"
_ADDRESS = re.compile(rf"(?i){_WEB}[^\s<>\"`\[\]{{}}|“”„«»]*")
_BEGINS_AS_ADDRESS = re.compile(rf"(?i){_WEB}")
_SCP = re.compile(r"(?<!\S)[\w.+-]+@[\w.-]+:[^\s<>\"'`]+")
_PICTURE = re.compile(r"(?i)\.(?:svg|png|gif|jpe?g|webp)(?:[?#]|\Z)")
_LAUNCH_LINK = re.compile(r"/v2/[a-z]")
_COMMAND = re.compile(r"(?:\$\s+)?(?:git|gh\s+repo)\s+clone\s+(?P<arguments>.+)")
_BRANCH = re.compile(r"\s(?:-b|--branch)(?:\s+|=)(?P<ref>\S+)")
_PINNED = re.compile(
    r"(?P<address>git\+[a-z]+://[^/\s]+/[^@#?\s]+|\S+?\.git|[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)"
    r"@(?P<ref>[^#?\s:]+)(?P<rest>[#?]\S*)?"
)
"""An address with its ref behind it: as pip writes it (`git+https://…@v1#egg=x`), behind `.git`, or `owner/name@v1`."""

_AROUND = "<>\"'`“”„«»\u200b\u2060\ufeff"
_ENDS_OF_SENTENCES = ",;:!*"
_OPENING = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True)
class Pasted:
    """An address as it is written, or another text such as `owner/name`, and the ref that was given beside it."""

    address: str
    ref: str = ""


def pasted(text: str) -> Pasted:
    """Return what a text says: a badge's target, the argument of `git clone`, the address in a sentence, or all of it.

    A picture's address counts only if there is no other one, and a launch link more than others. Raise
    `BinderyError("bad_spec")` if several are left.
    """
    text = text.strip()
    command = _COMMAND.fullmatch(text)
    branch = _BRANCH.search(text) if command else None
    address = _of_command(command["arguments"]) if command else _address_in(text)

    found = Pasted(address, branch["ref"] if branch else "")
    if pinned := _PINNED.fullmatch(address):
        return replace(found, address=pinned["address"] + (pinned["rest"] or ""), ref=pinned["ref"])
    return found


def _address_in(text: str) -> str:
    matches = [match[0] for match in _ADDRESS.finditer(text)]
    if len(matches) == 1 and _BEGINS_AS_ADDRESS.match(text) and not re.search(r"[\n\t]", text):
        return _trimmed(text)  # all of it: a file's name may have blanks
    if not matches and re.search(r"\s", text):
        matches = _SCP.findall(text)
    return _only_one([_trimmed(match.replace("&amp;", "&")) for match in matches]) if matches else _trimmed(text)


def _of_command(arguments: str) -> str:
    """Return the address among the arguments of `git clone`, else the first that may be a name."""
    words = [_trimmed(word) for word in _BRANCH.sub("", f" {arguments}").split() if not word.startswith("-")]
    addresses = [word for word in words if "://" in word or "@" in word] or [word for word in words if "/" in word]
    return addresses[0] if addresses else arguments


def _only_one(addresses: list[str]) -> str:
    addresses = list(dict.fromkeys(addresses))
    addresses = [address for address in addresses if not _PICTURE.search(address)] or addresses
    addresses = [address for address in addresses if _LAUNCH_LINK.search(address)] or addresses
    if len(addresses) > 1:
        several = ", ".join(quotable(address) for address in addresses[:5])
        raise BinderyError("bad_spec", f"There are several addresses in that text. Paste one of them: {several}.")
    return addresses[0]


def _trimmed(text: str) -> str:
    """Return an address without what stands around it in a text: quotes, the end of a sentence, brackets not opened."""
    text = text.strip(_AROUND).strip()
    while text:
        last = text[-1]
        is_full_stop = last == "." and "?" not in text  # a path in a query may end with one
        is_bracket = last in _OPENING and text.count(last) > text.count(_OPENING[last])
        if not (last in _ENDS_OF_SENTENCES or last in _AROUND or is_full_stop or is_bracket):
            break
        text = text[:-1].rstrip()
    return text
