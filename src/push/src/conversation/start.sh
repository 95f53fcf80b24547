# shellcheck shell=sh
# Runs push-host, or says that it is not there and for which machine it would have to be.
# This file is one single-quoted argument of sh -c, so it holds no single quote.
program=/usr/local/lib/push/push-host
if ! [ -x "$program" ]; then
    printf "push-host missing %s\n" "$(uname -m)"
elif [ "$(id -u)" = 0 ]; then
    exec "$program" serve
else
    exec sudo -n -- "$program" serve
fi
