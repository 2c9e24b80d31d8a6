"""The configuration of the site that `make docs` builds from these pages: Sphinx, which reads them with MyST.

The pages are plain Markdown, links included.
"""

from typing import Any

project = "Bindery"
author = "the Bindery project"
html_title = "Bindery"

extensions = ["myst_parser"]
exclude_patterns = ["_site"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]

html_theme = "furo"
html_static_path = ["style"]
html_css_files = ["site.css"]
html_favicon = "../services/gateway/pages/static/mark.svg"
html_copy_source = False
html_show_copyright = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0f5c4c", "color-brand-content": "#0f5c4c"},
    "dark_css_variables": {"color-brand-primary": "#8fd3bf", "color-brand-content": "#8fd3bf"},
}

PAGES = (
    "install", "users", "errors", "authors", "api", "operators", "compose", "helm", "helm-values", "clouds", "security",
    "builders", "images", "settings", "registry", "hubs", "metrics", "redis", "redis-keys", "contributing", "design",
    "release",
)  # fmt: skip


def setup(app: Any) -> None:
    """Add the table of contents to the index while it is built, so that the page reads well on a forge too."""

    def add_contents(_app: Any, name: str, source: list[str]) -> None:
        if name == "index":
            source[0] += "\n```{toctree}\n:hidden:\n\n" + "\n".join(PAGES) + "\n```\n"

    app.connect("source-read", add_contents)
