"""What is a pointer of Git LFS, by its specification."""

import pytest

from services.common.git.pointers import Pointer, pointer_of

OID = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
V1 = "version https://git-lfs.github.com/spec/v1"


@pytest.mark.parametrize(
    "text",
    [
        f"{V1}\noid sha256:{OID}\nsize 12345\n",
        f"{V1}\r\noid sha256:{OID}\r\nsize 12345\r\n",
        f"{V1}\noid sha256:{OID}\nsize 12345\nx-other anything\n",
        f"version https://hawser.github.com/spec/v1\noid sha256:{OID}\nsize 12345\n",
    ],
)
def test_a_pointer_names_digest_and_size(text: str) -> None:
    assert pointer_of(text.encode()) == Pointer(OID, 12345)


def test_a_pointer_with_an_extension_says_so() -> None:
    text = f"{V1}\next-0-foo sha256:{OID}\noid sha256:{OID}\nsize 1\n"
    assert pointer_of(text.encode()) == Pointer(OID, 1, has_extensions=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n1,2\n",
        f"oid sha256:{OID}\nsize 12345\n{V1}\n",
        f"version https://example.org/spec/v1\noid sha256:{OID}\nsize 12345\n",
        f"{V1}\noid sha256:{OID}\n",
        f"{V1}\nsize 12345\n",
        f"{V1}\noid sha1:{OID[:40]}\nsize 12345\n",
        f"{V1}\noid sha256:{OID.upper()}\nsize 12345\n",
        f"{V1}\noid sha256:../../{OID[6:]}\nsize 12345\n",
        f"{V1}\noid sha256:{OID}\nsize -1\n",
        f"{V1}\noid sha256:{OID}\nsize {'9' * 19}\n",
        f"{V1}\noid sha256:{OID}\nsize \u0661\n",
        f"{V1}\noid sha256:{OID}\nsize 12345\n" + "x" * 1024,
    ],
)
def test_anything_else_is_none(text: str) -> None:
    assert pointer_of(text.encode()) is None
