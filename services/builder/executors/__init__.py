"""The executors, which run the builds, and the code shared by those that run repo2docker.

Each executor is a folder that imports no other one. `executor.py` is its `Executor`, and `settings.py` its part of the
builder's settings. The rest differs with the platform:

- `docker/` and `kubernetes/` have `logs.py`, which decodes the platform's own framing of a log. A session of `process/`
  writes JSON lines, which `executor.py` there reads as they are.
- `docker/` and `process/` have `images.py`, the lookup of images that stay where they are built. Images of
  `kubernetes/` are pushed, or stay in the node's engine: their lookup is the registry's or that of `docker/`.
"""
