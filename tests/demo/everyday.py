#!/usr/bin/python3
"""An app that does what a test asks of it by its environment: a server that greets, repeats what
it was asked, writes where it may, starts late, dies early, or says something hostile first.

/ repeats the request; /reloads counts the SIGHUPs; /write/NAME writes into its shared folder, and
/read/PATH reads a file with the app's own rights. Anything else answers STATUS with BODY.
"""
import os
import signal
import socket
import sys
import time

reloads = 0


def reload(_signal, _frame):
    global reloads
    reloads += 1


def want(name, default=""):
    return os.environ.get(name, default)


def listening():
    if want("LISTEN_FDS"):
        return socket.socket(fileno=3)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", int(want("PORT"))))
    listener.listen(64)
    return listener


def ready():
    place = want("NOTIFY_SOCKET")
    if place:
        teller = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        teller.sendto(b"READY=1", "\0" + place[1:] if place[0] == "@" else place)


def answer(head):
    path = head.split(" ")[1]
    try:
        if path == "/reloads":
            return "200 OK", str(reloads)
        if path.startswith("/write/"):
            with open(want("SHARED") + path[len("/write") :], "a", encoding="utf-8") as file:
                file.write(want("MARK") + "\n")
            return "200 OK", "written"
        if path.startswith("/read/"):
            with open(path[len("/read") :], encoding="utf-8") as file:
                return "200 OK", file.read()
    except OSError as error:
        return "500 Failed", str(error)
    token = want("BEARER")
    if token and "authorization: bearer " + token not in head.lower():
        return "401 Unauthorized", "who are you?"
    return want("STATUS", "200") + " Said", want("BODY") or head


def serve(listener):
    ends = time.monotonic() + float(want("LIVES", "1000000"))
    while True:
        listener.settimeout(max(0.01, ends - time.monotonic()))
        try:
            client, _ = listener.accept()
        except TimeoutError:
            sys.exit(3)
        client.settimeout(5)
        head = b""
        try:
            while b"\r\n\r\n" not in head:
                more = client.recv(65536)
                if not more:
                    break
                head += more
            if head:
                status, body = answer(head.decode("latin-1"))
                said = "HTTP/1.1 %s\r\nX-Mark: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (
                    status, want("MARK"), len(body.encode()), body)
                client.sendall(said.encode())
        except OSError:
            pass
        client.close()


def main():
    signal.signal(signal.SIGHUP, reload)
    if want("SAYS_HEX"):
        sys.stdout.buffer.write(bytes.fromhex(want("SAYS_HEX")) + b"\n")
        sys.stdout.flush()
    if want("EXITS"):
        sys.exit(int(want("EXITS")))
    time.sleep(float(want("DELAY", "0")))
    listener = listening()
    ready()
    serve(listener)


main()
