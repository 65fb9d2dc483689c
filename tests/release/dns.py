#!/usr/bin/env python3
"""Answers one name with 127.0.0.1, and says of any other that there is none. Usage: dns.py NAME ADDRESS PORT"""

import socket
import struct
import sys


def answer(request, name):
    identity, _, questions = struct.unpack(">HHH", request[:6])
    labels, at = [], 12
    while request[at]:
        labels.append(request[at + 1 : at + 1 + request[at]].decode().lower())
        at += 1 + request[at]
    kind = struct.unpack(">H", request[at + 1 : at + 3])[0]
    question = request[12 : at + 5]
    known = ".".join(labels) == name
    found = known and kind == 1
    # Of a name that is there but has no such record the answer is empty, and no error.
    head = struct.pack(">HHHHHH", identity, 0x8580 if known else 0x8583, questions, int(found), 0, 0)
    record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton("127.0.0.1")
    return head + question + (record if found else b"")


def main():
    name, address, port = sys.argv[1:]
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, int(port)))
    while True:
        request, client = server.recvfrom(4096)
        server.sendto(answer(request, name), client)


main()
