# shellcheck shell=sh
# Runs the script that is its first argument as root, under its own name, and hands it the second.
# If that is `asked`, sudo reads the password from stdin whenever it has said the prompt.
# This file is one single-quoted argument of sh -c, so it holds no single quote.
LC_ALL=C
export LC_ALL
if [ "$(id -u)" = 0 ]; then
    exec /bin/sh -c "$1" "$0" "${2:-}"
elif [ "${2:-}" = asked ]; then
    exec sudo -S -p "push asks sudo" -- /bin/sh -c "$1" "$0" asked
else
    exec sudo -n -- /bin/sh -c "$1" "$0"
fi
