"""A road between two cables: road.py ONE OTHER LOSS DELAY LATE JITTER

Carries each frame of an interface to the other one after DELAY seconds. LOSS (0 to 1) of them are lost; LATE (0 to 1) of them
wait up to JITTER seconds more, so that others overtake them. After SIGUSR1 the road is a good one, until SIGUSR2.
"""
import heapq
import random
import select
import signal
import socket
import sys
import time

ALL_PROTOCOLS, SOL_PACKET, VNET_HEADER, PACKET_OUTGOING = 3, 263, 15, 4


def end(interface):
    """A packet socket. With each frame it passes on how far its checksum is: a virtual cable leaves that to the other end."""
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    packets.setsockopt(SOL_PACKET, VNET_HEADER, 1)
    packets.bind((interface, ALL_PROTOCOLS))
    packets.setblocking(False)
    return packets


def main(one, other, loss, delay, late, jitter):
    ends = [end(one), end(other)]
    ways = dict(zip(ends, reversed(ends)))
    waiting, count = [], 0
    is_good = False

    def mend(signal_number, _frame):
        nonlocal is_good
        is_good = signal_number == signal.SIGUSR1

    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, mend)
    print("ready", flush=True)
    while True:
        left = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select(ends, [], [], left)
        for packets in ready:
            frame, sender = packets.recvfrom(1 << 17)
            if sender[2] == PACKET_OUTGOING or not is_good and random.random() < loss:
                continue
            more = random.random() * jitter if random.random() < late else 0
            count += 1
            due = time.monotonic() + (0 if is_good else delay + more)
            heapq.heappush(waiting, (due, count, ways[packets], frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, far, frame = heapq.heappop(waiting)
            try:
                far.send(frame)
            except OSError:
                pass  # an interface that is going down


main(*sys.argv[1:3], *map(float, sys.argv[3:]))
