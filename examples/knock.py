#!/usr/bin/env python3
"""A client for toctoc in the standard library alone, as docs/protocol.md describes it.

    knock.py sequence HOST 4431 2387 53/udp     knock at these ports, in order
    knock.py token HOST PORT FILE               send a token; FILE holds the 64 digits of the secret
    knock.py letters HOST PORT FILE             the same for a key with `browser = true`
    knock.py check HOST PORT FILE               the same inside a STUN check, as a web page sends it
    knock.py echo HOST FILE                     the same as `token`, in a ping, for a key with `ping = true` (root, or
                                                where the system lets everybody ping)
    knock.py vectors protocol.json              compare this client with the test vectors

It sends and does not look whether the door opened: connect to find out.
"""
import base64
import hashlib
import hmac
import json
import os
import socket
import struct
import sys
import time

GAP = 0.05  # seconds after each knock


def token(secret, window, number, form):
    """The token of a minute: `number` is 0 to 3, `form` is "bytes" or "letters"."""
    label = {"bytes": b"toctoc token v1", "letters": b"toctoc letters v1"}[form]
    digest = hmac.new(secret, label + struct.pack(">QI", window, number), hashlib.sha256).digest()
    return digest[:16] if form == "bytes" else base64.b64encode(digest[:12])


def tokens_at(secret, now, form):
    """The tokens to try, in order: those of this minute, by the quarter of it, and two of the next."""
    window, quarter = int(now) // 60, int(now) % 60 // 15
    order = [(window, (quarter + more) % 4) for more in range(4)] + [(window + 1, 0), (window + 1, 1)]
    return [token(secret, *which, form) for which in order]


def is_good(window, now):
    """Whether a token of this window opens at a moment, given that it was loaded and is not spent."""
    return now < (window + 1) * 60 + 120


def plain(token):
    """A datagram: the token, and 0 to 64 random bytes."""
    return token + os.urandom(os.urandom(1)[0] % 65)


def check(token):
    """A STUN binding request (RFC 8489) whose first attribute, the user name, is `TOKEN:name`."""
    name = token + b":abcd"
    value = name + bytes(-len(name) % 4)
    attribute = struct.pack(">HH", 6, len(name)) + value
    return struct.pack(">HHI", 1, len(attribute), 0x2112A442) + os.urandom(12) + attribute


def token_in(datagram, browser):
    """What the server takes for a token; `browser` is the key's setting."""
    is_check = datagram[:2] == b"\0\1" and datagram[4:8] == b"\x21\x12\xa4\x42" and datagram[20:22] == b"\0\6"
    if browser and is_check and len(datagram) >= 40:
        return datagram[24:40]
    return datagram[:16] if len(datagram) >= 16 else None


def echo(token, family, number=1):
    """An echo request as ping sends it: 16 bytes of time, then the token."""
    kind = 128 if family == socket.AF_INET6 else 8
    message = struct.pack(">BBHHH", kind, 0, 0, os.getpid() & 0xFFFF, number) + bytes(16) + token
    total = sum(struct.unpack(f">{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~(total + (total >> 16)) & 0xFFFF
    return message[:2] + struct.pack(">H", total) + message[4:]  # the kernel writes that of ICMPv6 itself


def token_in_echo(message, family, ping):
    """The same for an ICMP message; `family` is 4 or 6, `ping` is the key's setting."""
    is_request = message[:1] == {4: b"\x08", 6: b"\x80"}[family]
    return message[24:40] if ping and is_request and len(message) >= 40 else None


def opens(sequence, within, knocks):
    """Whether these knocks of one source open: pairs of a time in seconds and a port."""
    counted, last = [], None
    for at, port in knocks:
        if last and at - last[0] > within:
            counted, last = [], None
        if last and last[1] == port:
            continue
        counted.append(port)
        last = at, port
        if counted[-len(sequence):] == sequence:
            return True
    return False


def knock(host, port):
    """One knock: a SYN that is given up before it is repeated, or an empty datagram."""
    port, _, protocol = port.partition("/")
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    family, _, _, _, address = socket.getaddrinfo(host, int(port), type=kind)[0]
    with socket.socket(family, kind) as one:
        if kind == socket.SOCK_DGRAM:
            one.sendto(b"", address)
        else:
            one.setblocking(False)
            one.connect_ex(address)
        time.sleep(GAP)


def vectors(path):
    """The number of vectors in each list, all of which agree with this file."""
    with open(path, encoding="utf-8") as file:
        lists = json.load(file)
    for one in lists["tokens"]:
        secret, which = bytes.fromhex(one["secret"]), (one["window"], one["number"])
        assert token(secret, *which, "bytes").hex() == one["bytes"], one
        assert token(secret, *which, "letters").decode() == one["letters"], one
    for one in lists["times"]:
        assert is_good(one["window"], one["now"]) == one["opens"], one
    for one in lists["datagrams"]:
        found = token_in(bytes.fromhex(one["payload"]), one["browser"])
        assert (found == bytes.fromhex(one["token"])) == one["opens"], one
    for one in lists["echoes"]:
        found = token_in_echo(bytes.fromhex(one["message"]), one["family"], one["ping"])
        assert (found == bytes.fromhex(one["token"])) == one["opens"], one
    for one in lists["sequences"]:
        knocks = [(knock["at"], knock["to"]) for knock in one["knocks"]]
        assert opens(one["sequence"], one["within"], knocks) == one["opens"], one
    return {name: len(entries) for name, entries in lists.items()}


def main(words):
    if len(words) == 2 and words[0] == "vectors":
        print(json.dumps(vectors(words[1])))
    elif len(words) > 2 and words[0] == "sequence":
        for port in words[2:]:
            knock(words[1], port)
    elif len(words) == 4 and words[0] in ("token", "letters", "check"):
        how, host, port, file = words
        with open(file, encoding="ascii") as text:
            secret = bytes.fromhex(text.read().strip())
        one = tokens_at(secret, time.time(), "bytes" if how == "token" else "letters")[0]
        family, kind, _, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)[0]
        socket.socket(family, kind).sendto(check(one) if how == "check" else plain(one), address)
    elif len(words) == 3 and words[0] == "echo":
        with open(words[2], encoding="ascii") as text:
            secret = bytes.fromhex(text.read().strip())
        family, _, _, _, address = socket.getaddrinfo(words[1], 0, type=socket.SOCK_DGRAM)[0]
        protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
        kind = socket.SOCK_RAW if os.geteuid() == 0 else socket.SOCK_DGRAM
        message = echo(tokens_at(secret, time.time(), "bytes")[0], family)
        socket.socket(family, kind, protocol).sendto(message, address)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
