"""The operator's credentials for git servers: which of them is for which repository."""

import json

import pytest

from services.common.git.forge_settings import ForgeSettings
from services.common.models.errors import BinderyError
from tests.support.settings import settings_for

TOKENS = {
    "github_access_token": "of-github, another",
    "gitlabs": {"gl": {"url": "https://gitlab.com"}, "ours": {"url": "https://gitlab.test/at", "token": "of-gitlab"}},
    "giteas": {"git.test": {"url": "https://git.test", "token": "of-gitea"}},
    "bitbucket_token": "of-bitbucket",
}


def settings(**values: object) -> ForgeSettings:
    return settings_for(ForgeSettings, TOKENS | values)


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("https://github.com/org/repo", ("x-access-token", "of-github")),
        ("https://gist.github.com/0123456789abcdef", ("x-access-token", "of-github")),
        ("https://gitlab.test/at/group/project.git", ("x-access-token", "of-gitlab")),
        ("https://git.test/org/repo", ("x-access-token", "of-gitea")),
        ("https://bitbucket.org/org/repo", ("x-token-auth", "of-bitbucket")),
        ("https://gitlab.com/group/project.git", None),
        ("https://gitlab.test/elsewhere", None),
        ("https://github.com.evil.test/org/repo", None),
        ("http://github.com/org/repo", None),
        ("ssh://git@github.com/org/repo", None),
    ],
)
def test_a_token_is_for_its_own_forge(url: str, login: tuple[str, str] | None) -> None:
    credential = settings().credential_for(url)
    assert (credential and (credential.username, credential.password)) == login


def test_a_users_token_of_bitbucket_goes_with_its_own_name() -> None:
    credential = settings(bitbucket_user="ann@example.org").credential_for("https://bitbucket.org/org/repo")
    assert credential is not None
    assert credential.username == "x-bitbucket-api-token-auth"


def test_a_hosts_own_credential_comes_first() -> None:
    hosts = json.dumps({"Git.Test": r"username=bot\npassword=a=b", "other.test:8443": "password=alone"})
    operator = settings(git_credentials=hosts)
    first = operator.credential_for("https://git.test/org/repo")
    other = operator.credential_for("https://other.test:8443/repo")
    assert first is not None
    assert other is not None
    assert (first.username, first.password, first.scope) == ("bot", "a=b", "https://git.test")
    assert (other.username, other.password) == ("x-access-token", "alone")
    assert operator.credential_for("https://other.test/repo") is None
    with pytest.raises(BinderyError, match="BINDERY_GIT_CREDENTIALS is not a JSON object"):
        settings(git_credentials="[]").credential_for("https://git.test/org/repo")


def test_the_id_of_credentials_changes_with_each_of_them() -> None:
    others = [
        settings(github_access_token="x"), settings(bitbucket_token="x"), settings(git_credentials='{"a": "b"}'),
        settings(giteas={"git.test": {"url": "https://git.test", "token": "x"}}),
    ]  # fmt: skip
    assert len({each.credentials_id for each in (settings(), *others)}) == 1 + len(others)
    assert settings().credentials_id == settings().credentials_id
