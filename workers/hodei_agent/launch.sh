#!/bin/sh
# Starts the agent with the first Python 3.8 or newer that the image has; exits with 70 when it has none.
here=${0%/*}
for python in python3 python /usr/local/bin/python3 /usr/bin/python3 /usr/libexec/platform-python; do
    command -v "$python" >/dev/null 2>&1 || continue
    "$python" -E -s -S -c 'import sys; sys.exit(sys.version_info < (3, 8))' >/dev/null 2>&1 || continue
    exec "$python" -E -s -S "$here" "$@"
done
echo "hodei-agent: this image has no Python 3.8 or newer, which the agent needs; use an image that has one." >&2
exit 70
