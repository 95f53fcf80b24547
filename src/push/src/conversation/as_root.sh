# shellcheck shell=sh
# Runs the script that is its first argument as root.
# This file is one single-quoted argument of sh -c, so it holds no single quote.
if [ "$(id -u)" = 0 ]; then
    exec /bin/sh -c "$1" push-install
else
    exec sudo -n -- /bin/sh -c "$1" push-install
fi
