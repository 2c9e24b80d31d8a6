#!/bin/sh
# Has apt install from the archive as it was when the base image was made: Debian's own images name it, in a comment
# above each source. Ends with status 1 where a source has no such comment.
#     use-snapshot.sh [/etc/apt]
set -eu
apt="${1:-/etc/apt}"
sources="$apt/sources.list.d/debian.sources"
if ! sed -E '/^# https?:\/\//{N;s/^# ([^\n]+)\nURIs: .*$/URIs: \1/;}' "$sources" > "$sources.new" \
    || [ "$(grep -c '^URIs: .*/archive/.*/[0-9]\{8\}T[0-9]\{6\}Z' "$sources.new")" != "$(grep -c '^URIs: ' "$sources")" ]; then
    rm -f "$sources.new"
    echo "SNAPSHOT=true: the sources in $sources don't all say which archive they were made from." >&2
    echo "Take one of Debian's own images for BASE, by its digest, or build without SNAPSHOT." >&2
    exit 1
fi
mv "$sources.new" "$sources"
mkdir -p "$apt/apt.conf.d"
echo 'Acquire::Check-Valid-Until "false";' > "$apt/apt.conf.d/99snapshot"
