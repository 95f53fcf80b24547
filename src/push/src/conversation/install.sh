# shellcheck shell=sh
# As push-install: installs push-host and runs it. As push-look: runs it once, from a file that has
# lost its name before it runs, so that nothing of it stays whatever happens. Stdin: the SHA-256 of the
# program on a line, the size of the gzipped program in bytes on a line, the gzipped program, and then
# what push-host itself reads.
# With the argument `asked` it says first that it runs: what is sent before that is read by sudo.
# This file is one single-quoted argument of sh -c, so it holds no single quote.
set -eu
umask 022
if [ "${1:-}" = asked ]; then
    printf "push-host welcome\n"
fi
folder=/usr/local/lib/push
IFS= read -r digest
IFS= read -r bytes
if [ "$0" = push-look ]; then
    temporary=$(mktemp -- "/usr/local/lib/.push-look.XXXXXXXX")
else
    mkdir -p -- "$folder"
    temporary=$(mktemp -- "$folder/.push-host.XXXXXXXX")
fi
discard() {
    rm -f -- "$temporary"
}
trap discard EXIT
trap "exit 1" HUP INT TERM
head -c "$bytes" | gzip -dc >"$temporary"
if ! printf "%s  %s\n" "$digest" "$temporary" | sha256sum --check --status; then
    printf "what arrived is not the program that was sent\n" >&2
    exit 1
fi
chown root:root -- "$temporary"
chmod 0755 -- "$temporary"
if [ "$0" = push-look ]; then
    exec 4<"$temporary"
    discard
    trap - EXIT HUP INT TERM
    exec /proc/self/fd/4 look
fi
sync -- "$temporary"
mv -f -- "$temporary" "$folder/push-host"
sync -- "$folder"
trap - EXIT HUP INT TERM
exec "$folder/push-host" serve
