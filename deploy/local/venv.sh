#!/bin/sh
# Make .venv and install a lock into it, once: `sh venv.sh requirements.lock`, run from the checkout.
# A copy of the lock in .venv, written last, says that it was installed; while it equals the lock, nothing is asked
# of the network. PYTHON names another interpreter than the first supported one that is found.
set -u

lock=$1
venv=.venv
log=$venv/install.log
mark=$venv/installed-$(basename "$lock")

say() { printf '%s\n' "$*" >&2; }
give_up() { say "$*"; exit 1; }

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
is_supported() { case $(version_of "$1") in 3.11 | 3.12 | 3.13) return 0 ;; *) return 1 ;; esac; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_supported "$PYTHON" && { echo "$PYTHON"; return; }
        give_up "PYTHON=$PYTHON is not Python 3.11, 3.12 or 3.13: name one that is, as in \`make up PYTHON=python3.13\`."
    fi
    for candidate in python3.13 python3.12 python3.11 python3; do
        is_supported "$candidate" && { echo "$candidate"; return; }
    done
    give_up "No Python 3.11, 3.12 or 3.13 found: install one (Debian: python3 and python3-venv; macOS: brew install python@3.13), or name it with \`make up PYTHON=/path/to/python3\`."
}

is_usable_venv() {
    is_supported $venv/bin/python && $venv/bin/python -m pip --version >/dev/null 2>&1 || return 1
    [ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of $venv/bin/python)" ]
}

make_venv() {
    python=$(find_python) || exit 1
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        version=$(version_of "$python")
        give_up "$python can't make environments, it has no venv or ensurepip: install the package python$version-venv (Debian, Ubuntu: sudo apt-get install python$version-venv) and run make again."
    fi
    rm -rf $venv
    problem=$("$python" -m venv $venv 2>&1) || { rm -rf $venv; give_up "$python could not make $venv: $problem"; }
}

# Only pip's own errors count: its log names packages too, and each retry, also one that went well. An index that can't be
# reached offers no versions; where a folder offers others than the lock's, the retries tell.
is_network_trouble() {
    grep -q -E "^(ERROR: |error: |pip\._vendor\.(urllib3|requests)\.exceptions\.).*($trouble)" $log && return
    grep -q '^ERROR: No matching distribution' $log && grep -q '^WARNING: Retrying .* after connection broken' $log
}
trouble='Max retries exceeded|[Cc]onnection (broken|aborted|refused|reset)|incomplete-download|timed out|name resolution|unreachable|ProxyError|from versions: none'

[ -r "$lock" ] || give_up "There is no $lock here: run make in the checkout of Bindery."
if [ -x $venv/bin/python ] && is_supported $venv/bin/python && cmp -s "$lock" "$mark"; then
    [ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of $venv/bin/python)" ] && exit 0
fi
is_usable_venv || make_venv
# The development lock only adds to the other, with the same pins; a new requirements.lock may change both.
rm -f "$mark"
[ "$lock" != requirements.lock ] || rm -f $venv/installed-*
say "Installing $lock into $venv (only when the lock has changed; about a minute) ..."
if ! $venv/bin/python -m pip install --no-input --disable-pip-version-check --require-hashes --requirement "$lock" >$log 2>&1; then
    if grep -q -e 'THESE PACKAGES DO NOT MATCH THE HASHES' $log; then
        give_up "A package that was downloaded is not the one that $lock names, so nothing was installed; the details are in $log."
    fi
    if is_network_trouble && grep -q CERTIFICATE_VERIFY_FAILED $log; then
        give_up "The packages of $lock could not be downloaded: the package index's certificate is not trusted. If a proxy of your network opens TLS connections, add its authority's certificate to those of the system, name the file with all of them in SSL_CERT_FILE and REQUESTS_CA_BUNDLE, and run make again; the details are in $log."
    fi
    if is_network_trouble; then
        give_up "The packages of $lock could not be downloaded: no package index was reached. Check the network and the proxy settings (HTTPS_PROXY, pip's configuration), then run make again; the details are in $log."
    fi
    give_up "Installing $lock failed: $(grep -i '^error' $log | tail -n 1) The details are in $log."
fi
cp "$lock" "$mark.new" && mv "$mark.new" "$mark"
