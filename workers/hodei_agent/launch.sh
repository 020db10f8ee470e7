#!/bin/sh
# Starts the agent with the first Python 3.8 or newer that the image has; exits with 70 when it has none.
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
for python in python3 python /usr/local/bin/python3 /usr/bin/python3 /usr/libexec/platform-python; do
    command -v "$python" >/dev/null 2>&1 || continue
    "$python" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 8))' >/dev/null 2>&1 || continue
    exec "$python" -I -S -B "$here" "$@"
done
echo "hodei-agent: this image has no Python 3.8 or newer, which the agent needs; use an image that has one." >&2
exit 70
