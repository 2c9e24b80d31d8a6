"""Lua of the build queue: nobody owns a queued build, so it moves by these scripts alone."""
