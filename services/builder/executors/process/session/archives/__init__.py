"""Datasets of research archives, fetched by the checked client: each archive's listing is a file of its own.

`fetch_archive` is the story. What lies where is what repo2docker's content provider of that archive makes of it.
"""
