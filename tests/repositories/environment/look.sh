set -eu
for name in REPO_DIR NB_PYTHON_PREFIX KERNEL_PYTHON_PREFIX USER SHELL LANG HOME; do
    test -n "${!name:-}" || { echo "$name is not set"; exit 1; }
done
test "$(cd "$REPO_DIR" && pwd -P)" = "$(pwd -P)"
test "$(command -v python)" = "$NB_PYTHON_PREFIX/bin/python"
"$NB_PYTHON_PREFIX/bin/python" -c "import jupyterlab"
"$KERNEL_PYTHON_PREFIX/bin/python" -m pip --version
test "$SHELL" = /bin/bash
case "$LANG" in *.UTF-8 | *.utf8) ;; *) echo "LANG is $LANG"; exit 1 ;; esac
