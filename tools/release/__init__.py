"""What a release needs, by docs/release.md: checks, a rehearsal, and the text of the release page.

`check`, `prepare`, `begin` and `notes` need Python and git alone, so that a workflow can run them before it installs
anything.
"""
