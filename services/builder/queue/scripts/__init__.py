"""The Lua scripts of the build queue. A queued build has no owner, so only these scripts change it."""
