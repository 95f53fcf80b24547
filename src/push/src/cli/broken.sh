#!/bin/sh
# What `push rehearse` ships in place of a program, to show that hosts take a broken release back.
echo 'this release is broken on purpose' >&2
exit 1
