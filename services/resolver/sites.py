"""The forms of the addresses of forges' pages, for the rows of providers, and the rows of sites without a provider."""

from services.common.models import Page, Site
from services.common.net.registries import PYPI

GITHUB_REPOSITORY = r"[A-Za-z0-9_-][A-Za-z0-9_.-]*/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9_.-]+"
GITHUB_PAGES = (
    Page(path=r"tree/(?P<undivided>.+)", opens="folder"),
    Page(path=r"(?:blob|blame|raw|edit)/(?P<undivided>.+)", opens="file"),
    Page(path=r"commits/(?P<undivided>.+)", opens="either"),
    Page(path=r"commit/(?P<ref>[0-9A-Fa-f]{4,40})(?:\.patch|\.diff)?"),
    Page(path=r"pull/[0-9]+/(?:commits|changes|files)/(?:[0-9A-Fa-f]{7,40}\.\.)?(?P<ref>[0-9A-Fa-f]{7,40})"),
    Page(
        path=r"pull/(?P<number>[0-9]+)(?:/(?:commits|files|checks|changes)|\.patch|\.diff)?",
        ref="refs/pull/{number}/head",
    ),
    Page(path=r"releases/tag/(?P<ref>.+)"),
    Page(path=r"releases/download/(?P<ref>.+)/[^/]+"),
    Page(path=r"archive/(?:refs/(?:heads|tags)/)?(?P<ref>.+?)\.(?:zip|tar\.gz)"),
    Page(path=r"(?:(?:legacy\.)?(?:zip|tar\.gz)|zipball|tarball)/(?:refs/(?:heads|tags)/)?(?P<ref>.+)"),
)
GITHUB_NOT_OWNERS = (
    "about", "account", "apps", "codespaces", "collections", "contact", "customer-stories", "dashboard", "enterprise",
    "explore", "features", "github-copilot", "issues", "join", "login", "marketplace", "new", "notifications",
    "organizations", "orgs", "pricing", "pulls", "resources", "search", "security", "sessions", "settings", "signup",
    "solutions", "sponsors", "stars", "team", "topics", "trending", "users", "watching",
)  # fmt: skip

RAW_FILES = (Page(path=r"(?P<undivided>.+)", opens="file"),)

GITLAB_MARK = (
    r"-/|(?:tree|blob|raw|blame|commits?|wikis)/|(?:issues|merge_requests|pipelines|jobs|snippets)/[0-9]"
    r"|repository/archive|(?:issues|merge_requests)\Z"
)
"""Before a page: a dash; or the names that pages had before there was one, if no project is called so."""
GITLAB_NOT_OWNERS = ("-", "admin", "dashboard", "explore", "groups", "help", "projects", "search", "snippets", "users")
GITLAB_PAGES = (
    Page(path=r"(?:-/)?tree/(?P<undivided>.+)", opens="folder"),
    Page(path=r"(?:-/)?(?:blob|raw|blame|edit)/(?P<undivided>.+)", opens="file"),
    Page(path=r"(?:-/)?commits/(?P<undivided>.+)", opens="either"),
    Page(path=r"(?:-/)?commit/(?P<ref>[0-9A-Fa-f]{4,40})(?:\.patch|\.diff)?"),
    Page(path=r"(?:-/)?merge_requests/[0-9]+/diffs", query=r"(?:\A|&)commit_id=(?P<ref>[0-9A-Fa-f]{7,40})"),
    Page(
        path=r"(?:-/)?merge_requests/(?P<number>[0-9]+)(?:/(?:commits|diffs|pipelines)|\.patch|\.diff)?",
        ref="refs/merge-requests/{number}/head",
    ),
    Page(path=r"-/(?:tags|releases)/(?P<ref>.+)"),
    Page(path=r"-/archive/(?P<ref>.+)/[^/]+"),
    Page(path=r"repository/archive.*", query=r"(?:\A|&)ref=(?P<ref>[^&]+)"),
)

GITEA_NOT_OWNERS = ("-", "admin", "explore", "org", "user")
GITEA_PAGES = (
    Page(path=r"src/(?:branch|tag)/(?P<undivided>.+)", opens="either"),
    Page(path=r"(?:raw|media|blame|rss)/(?:branch|tag)/(?P<undivided>.+)", opens="file"),
    Page(path=r"commits/(?:branch|tag)/(?P<undivided>.+)", opens="either"),
    Page(path=r"(?:src|raw|media|blame)/commit/(?P<ref>[0-9A-Fa-f]{4,40})(?:/(?P<path>.+))?", opens="either"),
    Page(path=r"commit/(?P<ref>[0-9A-Fa-f]{4,40})"),
    Page(path=r"pulls/(?P<number>[0-9]+)(?:/(?:commits|files))?", ref="refs/pull/{number}/head"),
    Page(path=r"releases/tag/(?P<ref>.+)"),
    Page(path=r"archive/(?P<ref>.+?)\.(?:zip|tar\.gz|bundle)"),
)

BITBUCKET_NOT_OWNERS = ("account", "dashboard", "product", "workspace", "workspaces")
BITBUCKET_PAGES = (
    Page(path=r"(?:src|raw)/[0-9A-Fa-f]{7,39}(?:/(?P<path>.+))?", query=r"(?:\A|&)at=(?P<ref>[^&]+)", opens="either"),
    Page(path=r"src/(?P<undivided>.+)", opens="either"),
    Page(path=r"src"),
    Page(path=r"raw/(?P<undivided>.+)", opens="file"),
    Page(path=r"branch/(?P<ref>.+)"),
    Page(path=r"commits/(?:branch|tag)/(?P<ref>.+)"),
    Page(path=r"commits/(?P<ref>[0-9A-Fa-f]{7,40})"),
    Page(path=r"get/(?P<ref>.+?)\.(?:zip|tar\.gz|tar\.bz2)"),
)

SOURCEHUT_PAGES = (
    Page(path=r"tree/(?P<ref>.+?)(?:/item/(?P<path>.+))?", opens="either"),
    Page(path=r"(?:blob|blame)/(?P<undivided>.+)", opens="file"),
    Page(path=r"log/(?P<ref>.+?)(?:/item/(?P<path>.+))?", opens="either"),
    Page(path=r"commit/(?P<ref>[0-9A-Fa-f]{4,40})"),
    Page(path=r"refs/(?P<ref>.+)"),
    Page(path=r"archive/(?P<ref>.+?)\.tar\.gz"),
    Page(path=r"tree|log"),
)

HUGGING_FACE_MARK = r"(?:tree|blob|resolve|raw|blame|edit|commits?|discussions|settings)(?:/|\Z)"
HUGGING_FACE_PAGES = (
    Page(path=r"tree/(?P<undivided>.+)", opens="folder"),
    Page(path=r"(?:blob|resolve|raw|blame|edit)/(?P<undivided>.+)", opens="file"),
    Page(path=r"commits/(?P<undivided>.+)", opens="either"),
    Page(path=r"commit/(?P<ref>[0-9A-Fa-f]{4,40})"),
    Page(path=r"discussions/(?P<number>[0-9]+)(?:/files)?", ref="refs/pr/{number}"),
)

AZURE_PAGES = (
    Page(
        path="",
        query=r"\A(?=(?:.*&)?version=G[BTC](?P<ref>[^&]+))(?:(?=(?:.*&)?path=(?P<path>[^&]+)))?",
        opens="either",
    ),
    Page(path=r"commit/(?P<ref>[0-9A-Fa-f]{40})"),
    Page(path=r"pullrequest/(?P<number>[0-9]+)", ref="refs/pull/{number}/merge"),
)

CGIT_MARK = r"(?:about|blame|commit|diff|log|patch|plain|refs|snapshot|stats|summary|tag|tree)(?:/|\Z)"
CGIT_PAGES = (
    Page(path=r"(?:commit|diff|patch)(?:/.*)?", query=r"(?:\A|[&;])id=(?P<ref>[0-9A-Fa-f]{7,40})"),
    Page(
        path=r"(?:tree|plain|blame|log|commit|tag)(?:/(?P<path>.+))?",
        query=r"(?:\A|[&;])(?:h|id)=(?P<ref>[^&;]+)",
        opens="either",
    ),
    Page(path=r"(?:tree|plain|blame)(?:/(?P<path>.+))?", opens="either"),
    Page(path=r"(?:log|refs|summary|about)(?:/.*)?"),
)

GIST_PAGES = (
    Page(path=r"(?:raw/)?(?P<ref>[0-9A-Fa-f]{40})(?:/(?P<path>.+))?", opens="file"),
    Page(path=r"raw/(?P<path>.+)", opens="file"),
    Page(path=r"(?P<path>[^/]+\.ipynb)", opens="file"),
    Page(path=r"revisions|forks|stargazers"),
)

ANY_FORGE_MARK = (
    r"(?:(?:tree|blob|raw|blame|edit|commits?)/.|(?:pulls?|merge_requests|pull-requests|issues|pipelines)/[0-9]"
    r"|releases/tag/|wikis?/.|-/|(?:issues|pulls|merge_requests|pull-requests|pipelines)\Z)(?!.*\.git\Z)"
)
"""Before a page of a forge that no other row knows: what most of them write, and no path of a repository likely has."""
ANY_FORGE_PAGES = (*GITHUB_PAGES, *GITLAB_PAGES, *GITEA_PAGES)

ZENODO = Site(
    name="Zenodo", provider="zenodo", url="https://zenodo.org",
    repository=r"records?/(?P<record>[0-9]+)(?:/.*)?|.*", archives=r"10\.5281/zenodo\..+",
    doi="10.5281/zenodo.{record}",
)  # fmt: skip
FIGSHARE = Site(
    name="Figshare", provider="figshare", url="https://figshare.com",
    repository=r"articles/(?:.*/)?(?P<record>[0-9]{5,})|.*", archives=r"10\.6084/.+",
    doi="10.6084/m9.figshare.{record}",
)  # fmt: skip
HYDROSHARE = Site(
    name="HydroShare", provider="hydroshare", url="https://www.hydroshare.org", also_at=("https://hydroshare.org",),
    repository=".*", archives=r"10\.4211/.+",
)  # fmt: skip
DATAVERSE = Site(
    name="Dataverse", provider="dataverse", url="https://dataverse.harvard.edu", repository=".*",
    archives=r"10\.7910/.+",
)  # fmt: skip
SOFTWARE_HERITAGE = Site(
    name="Software Heritage", provider="swh", url="https://archive.softwareheritage.org", repository=".*"
)
DOI_ORG = Site(
    name="doi.org", provider="doi", url="https://doi.org", also_at=("https://dx.doi.org",), repository=".*",
    archives=r"10\..+",
)  # fmt: skip

WITHOUT_PROVIDER = (
    Site(
        name="SourceHut", provider="git", url="https://git.sr.ht", clone_url="https://git.sr.ht/{repository}",
        repository=r"~[^/]+/[^/]+", pages=SOURCEHUT_PAGES,
    ),
    Site(
        name="Hugging Face", provider="git", url="https://huggingface.co", also_at=("https://hf.co",),
        clone_url="https://huggingface.co/{repository}",
        repository=rf"(?:(?:datasets|spaces)/)?[^/]+(?:/(?!{HUGGING_FACE_MARK})[^/]+)?",
        page_mark=HUGGING_FACE_MARK, pages=HUGGING_FACE_PAGES,
        not_owners=(
            "blog", "chat", "collections", "docs", "join", "learn", "login", "models", "organizations", "papers",
            "posts", "pricing", "settings", "tasks",
        ),
    ),
    Site(
        name="Azure DevOps", provider="git", url="https://dev.azure.com",
        clone_url="https://dev.azure.com/{repository}", repository=r"[^/]+/(?:[^/]+/)?_git/[^/]+", pages=AZURE_PAGES,
    ),
    ZENODO,
    FIGSHARE,
    DATAVERSE,
    HYDROSHARE,
    Site(name="OSF", provider="osf", url="https://osf.io", repository=".*", archives=r"10\.17605/.+"),
    SOFTWARE_HERITAGE,
    DOI_ORG,
    *(
        Site(name=name, provider="", url=url, also_at=also_at, repository=".*")
        for name, url, also_at in (
            ("nbviewer", "https://nbviewer.org", ("https://nbviewer.jupyter.org",)),
            ("Colab", "https://colab.research.google.com", ()),
            ("Zenodo's sandbox", "https://sandbox.zenodo.org", ()),
            ("Kaggle", "https://kaggle.com", ()),
            ("PyPI", f"https://{PYPI}", ()),
            ("arXiv", "https://arxiv.org", ()),
            ("mybinder.org", "https://mybinder.org", ("https://static.mybinder.org",)),
        )
    ),
    # Hosts that are known by the forms of their pages alone
    Site(name="GitLab", provider="git", repository=r"[^/]+(?:/[^/]+)+?", page_mark="-/", pages=GITLAB_PAGES),
    Site(
        name="Gitea", provider="git", repository=r"[^/]+(?:/[^/]+)+?",
        page_mark=r"(?:src|raw|media|blame|commits)/(?:branch|tag|commit)/", pages=GITEA_PAGES,
    ),
    Site(name="cgit", provider="git", repository=r"(?:[^/]+/)*?[^/]+\.git", page_mark=CGIT_MARK, pages=CGIT_PAGES),
    Site(
        name="a forge", provider="git", repository=r"[^/]+(?:/[^/]+)+?", page_mark=ANY_FORGE_MARK,
        pages=ANY_FORGE_PAGES,
    ),
)  # fmt: skip
"""Sites that no provider here is for: their repositories are launched by `git`, if at all.

Those of archives' providers are here as well: where an operator has left such a provider out, a page of its archive is
not the URL of a git repository.
"""
