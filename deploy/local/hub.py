"""`python -m deploy.local.hub`: JupyterHub, started twice as fast.

JupyterHub imports jupyter_events, that jsonschema, and that, where it is installed, rfc3987_syntax, which compiles a
grammar for 1.4 s at each import. It checks the formats `iri` and `iri-reference`, which no event of the hub has;
jsonschema does without it when it can't be imported.
"""

import runpy
import sys
from typing import Any

if __name__ == "__main__":
    modules: dict[str, Any] = sys.modules
    modules["rfc3987_syntax"] = None
    runpy.run_module("jupyterhub", run_name="__main__", alter_sys=True)
