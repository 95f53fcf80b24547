# shellcheck shell=sh
# Runs push-host, or says that it is not there and for which machine it would have to be.
# With the argument `asked`, sudo reads the password from stdin whenever it has said the prompt.
# This file is one single-quoted argument of sh -c, so it holds no single quote.
program=/usr/local/lib/push/push-host
LC_ALL=C
export LC_ALL
if ! [ -x "$program" ]; then
    printf "push-host missing %s\n" "$(uname -m)"
elif [ "$(id -u)" = 0 ]; then
    exec "$program" serve
elif [ "${1:-}" = asked ]; then
    exec sudo -S -p "push asks sudo" -- "$program" serve
else
    exec sudo -n -- "$program" serve
fi
