"""The list of providers, as `/api/repoproviders` and forms have it."""

from tests.support.in_process_resolver import running_resolver


async def test_providers_are_shown_as_binderhub_shows_them() -> None:
    async with running_resolver() as resolver:
        providers_json = (await resolver.client.get("/providers")).json()
    sites = [site for provider in providers_json for site in provider.pop("sites")]
    assert {"https://github.com", "https://gitlab.com"} <= {site["url"] for site in sites}
    assert providers_json == [
        {
            "displayName": "GitHub",
            "id": "gh",
            "spec": {"validateRegex": r"[^/]+/[^/]+/.+"},
            "detect": {"regex": "^(https?://github.com/)?(?<repo>.*[^/])/?"},
            "repo": {
                "label": "GitHub repository name or URL",
                "placeholder": "example: binder-examples/requirements or "
                "https://github.com/binder-examples/requirements",
                "urlEncode": False,
            },
            "ref": {"enabled": True, "default": "HEAD"},
        },
        {
            "displayName": "GitHub Gist",
            "id": "gist",
            "spec": {"validateRegex": "[^/]+/[^/]+(/[^/]+)?"},
            "detect": {"regex": "^(https?://gist.github.com/)?(?<repo>.*[^/])/?"},
            "repo": {"label": "Gist ID (username/gistId) or URL", "placeholder": "", "urlEncode": False},
            "ref": {"enabled": True, "default": "HEAD"},
        },
        {
            "displayName": "Git repository",
            "id": "git",
            "spec": {"validateRegex": r"[^/]+/.+"},
            "repo": {
                "label": "Arbitrary git repository URL",
                "placeholder": "example: http://git.example.com/repo",
                "urlEncode": True,
            },
            "ref": {"enabled": True, "default": "HEAD"},
        },
        {
            "displayName": "GitLab",
            "id": "gl",
            "spec": {"validateRegex": "[^/]+/.+"},
            "detect": {"regex": "^(https?://gitlab.com/)?(?<repo>.*[^/])/?"},
            "repo": {
                "label": "GitLab repository name or URL",
                "placeholder": "example: https://gitlab.com/mosaik/examples/mosaik-tutorials-on-binder or "
                "mosaik/examples/mosaik-tutorials-on-binder",
                "urlEncode": True,
            },
            "ref": {"enabled": True, "default": "HEAD"},
        },
        {
            "displayName": "Gitea or Forgejo",
            "id": "gitea",
            "spec": {"validateRegex": "[^/]+/[^/]+/[^/]+/.+"},
            "detect": {"regex": "^(https?://)?(?<repo>[^/]+/.*[^/])/?"},
            "repo": {
                "label": "Repository on a Gitea or Forgejo, with its host, or URL",
                "placeholder": "example: codeberg.org/owner/repository or https://codeberg.org/owner/repository",
                "urlEncode": False,
                "parts": 3,
            },
            "ref": {"enabled": True, "default": "HEAD"},
        },
        {
            "displayName": "Bitbucket",
            "id": "bb",
            "spec": {"validateRegex": "[^/]+/[^/]+/.+"},
            "detect": {"regex": "^(https?://bitbucket.org/)?(?<repo>.*[^/])/?"},
            "repo": {
                "label": "Bitbucket repository name or URL",
                "placeholder": "example: workspace/repository or https://bitbucket.org/workspace/repository",
                "urlEncode": False,
            },
            "ref": {"enabled": True, "default": "HEAD"},
        },
        {
            "displayName": "Zenodo DOI",
            "id": "zenodo",
            "spec": {"validateRegex": r"10\.[0-9]+\/(.)+"},
            "repo": {"label": "Zenodo DOI", "placeholder": "example: 10.5281/zenodo.3242074", "urlEncode": False},
            "ref": {"enabled": False},
        },
        {
            "displayName": "FigShare DOI",
            "id": "figshare",
            "spec": {"validateRegex": r"10\.[0-9]+\/(.)+"},
            "repo": {
                "label": "FigShare DOI",
                "placeholder": "example: 10.6084/m9.figshare.9782777.v1",
                "urlEncode": False,
            },
            "ref": {"enabled": False},
        },
        {
            "displayName": "Hydroshare resource",
            "id": "hydroshare",
            "spec": {"validateRegex": "[^/]+"},
            "repo": {
                "label": "Hydroshare resource id",
                "placeholder": "example: 8f7c2f0341ef4180b0dbe97f59130756",
                "urlEncode": True,
            },
            "ref": {"enabled": False},
        },
        {
            "displayName": "Dataverse DOI",
            "id": "dataverse",
            "spec": {"validateRegex": r"10\.[0-9]+\/(.)+"},
            "repo": {"label": "Dataverse DOI", "placeholder": "example: 10.7910/DVN/TJCLKP", "urlEncode": False},
            "ref": {"enabled": False},
        },
        {
            "displayName": "CKAN dataset",
            "id": "ckan",
            "spec": {"validateRegex": "[^/]+"},
            "repo": {
                "label": "CKAN dataset URL",
                "placeholder": "example: https://demo.ckan.org/dataset/my-sample-dataset-001",
                "urlEncode": True,
            },
            "ref": {"enabled": False},
        },
        {
            "displayName": "Software Heritage",
            "id": "swh",
            "spec": {"validateRegex": "[^/]+"},
            "repo": {
                "label": "SWHID",
                "placeholder": "example: swh:1:rev:309cf2674ee7a0749978cf8265ab91a60aea0f7d",
                "urlEncode": True,
            },
            "ref": {"enabled": False},
        },
        {
            "displayName": "DOI",
            "id": "doi",
            "spec": {"validateRegex": r"10\.[0-9]+\/(.)+"},
            "repo": {
                "label": "DOI of an archive",
                "placeholder": "example: 10.5281/zenodo.3242074",
                "urlEncode": False,
            },
            "ref": {"enabled": False},
        },
    ]
