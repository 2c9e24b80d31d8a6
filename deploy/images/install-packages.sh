#!/bin/sh
# Install locked packages into /opt/venv of an image, compiled and as small as they get:
# `sh install-packages.sh REQUIREMENTS`.
set -eu

/opt/pip/bin/pip --python /opt/venv/bin/python install --disable-pip-version-check --no-cache-dir --no-compile \
    --only-binary :all: --require-hashes --requirement "$1"

# Libraries that a wheel brings along (in its .libs) stay as they are: not every one of them survives it.
find /opt/venv -name '*.libs' -prune -o \( -name '*.cpython-*.so' -o -name '*.abi3.so' \) -exec strip --strip-debug {} +

for folder in /opt/venv/lib/python3.*/site-packages/kubernetes_asyncio/client; do
    if [ -e "$folder/__init__.py" ]; then
        /opt/venv/bin/python -m compileall -q -b "$folder"
        find "$folder" -name '*.py' -delete
    fi
done

# Of the icons in JupyterHub's pages the stylesheet and its fonts are used.
icons=/opt/venv/share/jupyterhub/static/components/@fortawesome/fontawesome-free
for form in js less metadata scss sprites sprites-full svgs svgs-full; do rm -rf "$icons/$form"; done
find /opt/venv -name '*.map' -path '*/static/*' -delete

# The packages' own tests. What is left is compiled once, for all images that it gets into.
find /opt/venv/lib -depth -type d \( -name test -o -name tests \) -exec rm -rf {} +
/opt/venv/bin/python -m compileall -q /opt/venv/lib
