"""Conda environments: channels, the solver, the links, and what activating one changes.

`install` is what a build calls. All that touches py-rattler runs in a process of its own (`__main__`): that one is
native code, and its time and memory end with it. `activation` is what the scripts of its packages change.
"""
