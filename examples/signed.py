#!/usr/bin/env python3
"""A client for signed keys of toctoc in the standard library alone, as docs/protocol.md describes them.

    signed.py send HOST PORT FILE [ADDRESS]     send a datagram; FILE holds the 64 digits of the secret, ADDRESS is the
                                                one that this machine has outside, if that is another than its own
    signed.py vectors signed.json               compare this client with the test vectors

It sends and does not look whether the door opened: connect to find out.
"""
import hashlib
import hmac
import ipaddress
import json
import os
import socket
import struct
import sys
import time

MASK = (1 << 64) - 1


def siphash128(key, data):
    """SipHash-2-4 with 128 bits."""
    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D ^ 0xEE, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotate(x, bits):
        return (x << bits | x >> (64 - bits)) & MASK

    def rounds(number):
        for _ in range(number):
            v[0] = (v[0] + v[1]) & MASK
            v[1] = rotate(v[1], 13) ^ v[0]
            v[0] = rotate(v[0], 32)
            v[2] = (v[2] + v[3]) & MASK
            v[3] = rotate(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & MASK
            v[3] = rotate(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & MASK
            v[1] = rotate(v[1], 17) ^ v[2]
            v[2] = rotate(v[2], 32)

    whole = data + bytes(-(len(data) + 1) % 8) + bytes([len(data) % 256])
    for (word,) in struct.iter_unpack("<Q", whole):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xEE
    rounds(4)
    first = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    rounds(4)
    return struct.pack("<QQ", first, v[0] ^ v[1] ^ v[2] ^ v[3])


def derive(secret, what, length):
    return hmac.new(secret, b"toctoc signed " + what + b" v1", hashlib.sha256).digest()[:length]


def source_bytes(address, bits):
    """The source as 16 bytes, with those bits that are not bound as 0."""
    address = ipaddress.ip_address(address)
    number = int(address) | (0xFFFF << 32 if address.version == 4 else 0)
    return (number >> (128 - bits) << (128 - bits)).to_bytes(16, "big")


def bits_of(bound, address):
    """How many of 128 bits are signed."""
    network = 120 if ipaddress.ip_address(address).version == 4 else 64
    return {"address": 128, "network": network, "none": 0}[bound]


def sign(secret, source, bound, nanoseconds):
    """A datagram, without random bytes behind it."""
    bits = bits_of(bound, source)
    signed = derive(secret, b"id", 4) + bytes([1, bits, 0, 0]) + struct.pack(">Q", nanoseconds)
    return siphash128(derive(secret, b"key", 16), signed + source_bytes(source, bits)) + signed


def judge(secret, datagram, source, binding, now, not_before):
    """Why the kernel refuses a datagram; None if it is good, and was not spent."""
    if not 32 <= len(datagram) <= 96:
        return "length"
    tag, name, version, bits, zero, at = struct.unpack(">16s4sBBHQ", datagram[:32])
    if version != 1 or zero:
        return "version"
    order = ["address", "network", "none"]
    bound = next((bound for bound in order if bits_of(bound, source) == bits), None)
    if bound is None:
        return "bits"
    if abs(at - now) > 120 * 10**9:
        return "clock"
    if at < not_before:
        return "forgotten"
    if name != derive(secret, b"id", 4):
        return "unknown"
    if order.index(bound) > order.index(binding):
        return "loose"
    wanted = siphash128(derive(secret, b"key", 16), datagram[16:32] + source_bytes(source, bits))
    return None if hmac.compare_digest(tag, wanted) else "tag"


def vectors(path):
    with open(path, encoding="ascii") as file:
        lists = json.load(file)
    for one in lists["signed"]:
        made = sign(bytes.fromhex(one["secret"]), one["source"], one["bound"], one["time"]).hex()
        assert made == one["datagram"], one["reason"]
    for one in lists["judged"]:
        datagram = bytes.fromhex(one["datagram"])
        why = judge(
            bytes.fromhex(one["secret"]), datagram, one["source"], one["binding"], one["now"], one["not_before"]
        )
        assert why == one["refused"], (one["reason"], why)
    print(json.dumps({name: len(entries) for name, entries in lists.items()}))


def send(host, port, file, address=None):
    with open(file, encoding="ascii") as text:
        secret = bytes.fromhex(text.read().strip())
    family, kind, protocol, _, to = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as out:
        out.connect(to)
        source = address or out.getsockname()[0].split("%")[0]
        out.send(sign(secret, source, "address", time.time_ns()) + os.urandom(os.urandom(1)[0] % 65))


if __name__ == "__main__":
    commands = {"send": send, "vectors": vectors}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
