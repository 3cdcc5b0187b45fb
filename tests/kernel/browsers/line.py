"""One end of a bad line: line.py SOCKET ADDRESSES...

Makes the interface `line0` with these addresses in the namespace that it is started in, and carries its packets over a
Unix socket to the other end, which is the same program. Each packet waits 75 ms and up to 30 ms more at random, so that they
overtake one another; 3 of 100 are lost.
"""
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time

DELAY, JITTER, LOSS = 0.075, 0.030, 0.03
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000


def other_end(path):
    """The first to come listens."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        end.bind(path)
    except OSError:
        end.connect(path)
        return end
    end.listen(1)
    return end.accept()[0]


def main(path, *addresses):
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"line0", IFF_TUN | IFF_NO_PI))
    for words in [["link", "set", "line0", "up"]] + [["address", "add", a, "dev", "line0", "nodad"] for a in addresses]:
        if "." in words[2]:
            words = words[:-1]
        subprocess.run(["ip", *words], check=True)
    far = other_end(path)
    waiting, count = [], 0
    while True:
        left = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select([tun, far], [], [], left)
        if tun in ready:
            packet = os.read(tun, 4096)
            count += 1
            if random.random() >= LOSS:
                heapq.heappush(waiting, (time.monotonic() + DELAY + random.random() * JITTER, count, packet))
        if far in ready:
            packet = far.recv(4096)
            if not packet:
                return
            try:
                os.write(tun, packet)
            except OSError:
                pass  # an interface that is going down
        while waiting and waiting[0][0] <= time.monotonic():
            far.send(heapq.heappop(waiting)[2])


main(*sys.argv[1:])
