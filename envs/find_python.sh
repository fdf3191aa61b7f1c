#!/bin/sh
# Print the first Python of 3.11 to 3.13 that can make a virtual environment; $PYTHON is the only one to try, where set.
if [ -n "$PYTHON" ]; then set -- "$PYTHON"; else set -- python3.11 python3.12 python3.13 python3; fi
for name; do
    # A name alone tells little: it may be pyenv's shim of a version that is not set.
    version=$("$name" -c 'import sys; print("python%d.%d" % sys.version_info[:2])' 2>/dev/null)
    case $version in python3.11 | python3.12 | python3.13) ;; *) continue ;; esac
    # Debian and Ubuntu leave it out of their Python.
    "$name" -c 'import ensurepip' 2>/dev/null && echo "$name" && exit
    lacking=${lacking:-$version}
done
if [ -n "$lacking" ]; then
    echo "error: $lacking can't make a virtual environment; on Debian and Ubuntu: apt install $lacking-venv" >&2
else
    echo "error: no Python of 3.11 to 3.13 among $*: install one, or name it: make run PYTHON=/path/to/python" >&2
fi
exit 1
