"""Random policies, valid ones: sequences over few ports, so that they share beginnings, ends and middles."""

from __future__ import annotations

import hashlib
import random
import subprocess
from pathlib import Path


def listed(items: list[str]) -> str:
    return "[" + ", ".join(items) + "]"


def quoted(text: str) -> str:
    return f'"{text}"'


class Writer:
    """One policy, by a generator of random numbers."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.udp = self.often(0.4)
        pool = chance.sample(range(1, 20_000), 14)
        self.knocks = [self.port(port) for port in pool[: chance.choice([5, 7, 12])]]
        self.taken: set[int] = set(pool)
        self.lines: list[str] = []

    def often(self, share: float) -> bool:
        return self.chance.random() < share

    def port(self, number: int) -> str:
        return quoted(f"{number}/udp") if self.udp and self.often(0.4) else str(number)

    def free_port(self) -> int:
        number = self.chance.choice([one for one in range(20_000, 60_000, 37) if one not in self.taken])
        self.taken.add(number)
        return number

    def sequence(self) -> str:
        chance, made = self.chance, []
        for _ in range(chance.choice([2, 3, 3, 3, 4, 5, 6])):
            made.append(chance.choice([one for one in self.knocks if not made or one != made[-1]]))
        return listed(made)

    def networks(self) -> str:
        some = ["198.51.100.0/24", "203.0.113.7", "10.0.0.0/8", "2001:db8:5::/48", "2001:db8::7", "192.0.2.128/25"]
        return listed([quoted(one) for one in self.chance.sample(some, self.chance.randint(1, 3))])

    def doors(self) -> list[str]:
        names = self.chance.sample(["ssh", "web", "vpn", "db", "mosh"], self.chance.randint(1, 3))
        for name in names:
            found = [str(self.free_port())]
            if self.often(0.3):
                found.append(str(self.free_port()))
            if self.often(0.2):
                start = self.free_port()
                found.append(quoted(f"{start}-{start + self.chance.randint(1, 30)}"))
            if self.udp and self.often(0.5):
                start = self.free_port()
                found.append(quoted(f"{start}/udp" if self.often(0.6) else f"{start}-{start + 9}/udp"))
            self.lines += ["", f"[door.{name}]", f"ports = {listed(found)}"]
            if self.often(0.3):
                self.lines.append(f"trust = {self.networks()}")
            if self.often(0.3):
                self.lines.append(f"open_for = {quoted(self.chance.choice(['20s', '90s', '6h', '12d']))}")
            self.extension()
            if self.often(0.3):
                some = self.chance.choice([["192.168.1.5:22"], ["192.168.1.6", "[fd00::6]:8080"], ["fd00::7"], ["10.1.1.1:53"]])
                self.lines.append(f"forward = {listed([quoted(one) for one in some])}")
                if self.often(0.5):
                    self.lines.append("masquerade = true")
        if self.often(0.35):
            names += self.doors_behind()
        return names

    def doors_behind(self) -> list[str]:
        """Doors in front of other hosts. They may have a port in common."""
        names, shared = self.chance.sample(["nas", "lab"], self.chance.randint(1, 2)), str(self.free_port())
        hosts = {"nas": ["192.0.2.50", "2001:db8:9::50"], "lab": ["198.18.0.0/15", "2001:db8:a::/64", "192.0.2.51"]}
        for name in names:
            found = [shared, str(self.free_port())]
            if self.often(0.3):
                start = self.free_port()
                found.append(quoted(f"{start}-{start + 9}"))
            if self.udp and self.often(0.5):
                found.append(quoted(f"{self.free_port()}/udp"))
            some = self.chance.sample(hosts[name], self.chance.randint(1, len(hosts[name])))
            self.lines += ["", f"[door.{name}]", f"ports = {listed(found)}", f"to = {listed([quoted(one) for one in some])}"]
            if self.often(0.5):
                self.lines.append('knock_at = "both"')
            if self.often(0.3):
                self.lines.append(f"trust = {self.networks()}")
            self.extension()
        return names

    def extension(self) -> None:
        if self.often(0.2):
            some = self.chance.choice([("10m", "8h"), ("90s", "13d"), ("1500ms", "91s")])
            self.lines += [f"extend = {quoted(some[0])}", f"at_most = {quoted(some[1])}"]

    def keys(self, doors: list[str], tokens: bool, signed: bool) -> None:
        count = self.chance.choice([0, 1, 1, 1, 2, 2, 3, 5])
        names = self.chance.sample(["yves", "alice", "guest", "paper", "phone", "k1", "k2", "k3"], count)
        secrets = [quoted(f"signed-{number}.secret") for number in range(count)]
        for name in names:
            opened = self.chance.sample(doors, self.chance.randint(1, len(doors)))
            self.lines += ["", f"[key.{name}]", f"opens = {listed([quoted(one) for one in opened])}"]
            kind = self.chance.random()
            if signed and self.often(0.5):
                self.lines.append(f"signed = {secrets.pop()}")
                if self.often(0.3):
                    self.lines.append(f"binding = {quoted(self.chance.choice(['network', 'none']))}")
            elif tokens and kind < 0.3:
                self.lines.append('token = "token.secret"' if self.often(0.5) else 'token = "other.secret"')
                if self.often(0.4):
                    self.lines.append("browser = true")
                elif self.often(0.4):
                    self.lines.append("ping = true")
            elif kind < 0.45:
                self.lines.append(f"scratch = {listed([self.sequence() for _ in range(self.chance.randint(1, 3))])}")
            else:
                self.lines.append(f"sequence = {self.sequence()}")
            if self.often(0.3):
                self.lines.append("once = true")
            if self.often(0.2):
                self.lines.append("expires = 2031-01-31" if self.often(0.5) else "expires = 2031-01-31T18:00:00Z")
            if self.often(0.3):
                self.lines.append(f"open_for = {quoted(self.chance.choice(['5s', '7m', '1h', '30d', '1500ms']))}")

    def firewall(self) -> None:
        allowed = [str(self.free_port()), quoted(f"{self.free_port()}/udp"), quoted("vrrp"), quoted("61000-61100")]
        allowed.append(f"{{ ports = [{self.free_port()}], from = {self.networks()} }}")
        allowed.append(f'{{ ports = ["ospf", {self.free_port()}], interfaces = ["eth1", "eth2"] }}')
        some = self.chance.sample(allowed, self.chance.randint(0, 4))
        self.lines += ["", "[firewall]", 'default = "drop"', f"allow = {listed(some)}"]
        if self.often(0.5):
            self.lines.append("ping = true")
        if self.often(0.5):
            self.lines.append('forward = "drop"')

    def policy(self) -> str:
        chance = self.chance
        signed = self.often(0.3)
        tokens = self.often(0.6 if signed else 0.3)
        if self.often(0.5):
            self.lines.append(f"within = {quoted(chance.choice(['1s', '1500ms', '3s', '10s', '1m', '1h']))}")
        if self.often(0.4):
            self.lines.append(f"open_for = {quoted(chance.choice(['5s', '60s', '10m', '1d']))}")
        if self.often(0.3):
            self.lines.append(f"interfaces = {listed(chance.sample([quoted('eth0'), quoted('wlan0'), quoted('br-lan')], 2))}")
        if self.often(0.3):
            self.lines.append(f"ignore = {listed([str(self.free_port()), quoted(f'{self.free_port()}/udp')])}")
        if self.often(0.25):
            self.lines.append('closed = "reject"')
        if self.often(0.4):
            self.lines.append(f"log = {quoted(chance.choice(['off', 'nflog:5', 'kernel']))}")
        if self.often(0.4):
            self.lines.append(f"max_sources = {chance.choice([256, 300, 640, 1000, 4096, 1048576])}")
        if tokens or signed:
            self.lines.append(f"token_port = {chance.choice([20123, 20124])}")
        if signed and self.often(0.3):
            self.lines.append(f"signed_mark = {chance.choice([1, 0x1234, 0xffffffff])}")
        if self.often(0.3):
            self.lines += ["[grant]", f"prefix4 = {chance.choice([8, 24, 31])}", f"prefix6 = {chance.choice([48, 64, 65, 127])}"]
        if self.often(0.25):
            self.firewall()
        start = len(self.lines)
        doors = self.doors()
        if self.often(0.15):
            shared = f"share = {listed([quoted(doors[0])])}\naccept = {listed([quoted(doors[-1])])}"
            self.lines[start:start] = ["", "[fleet]", 'url = "redis://192.0.2.10"', 'name = "alpha"', shared]
        if any(line == "[firewall]" for line in self.lines) and self.often(0.4):
            doors = ["host", *doors]
            self.lines += ["", "[door.host]", 'ports = "all"']
            if self.often(0.3):
                self.lines.append(f"trust = {self.networks()}")
            if self.often(0.3):
                self.lines += ['extend = "10m"', 'at_most = "29d"']
        self.keys(doors, tokens, signed)
        return "\n".join(self.lines) + "\n"


def make(count: int, seed: int, folder: Path, toctoc: str) -> list[Path]:
    """So many policies that `toctoc check` takes, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("token.secret", "other.secret", *(f"signed-{number}.secret" for number in range(5))):
        (folder / name).write_text(hashlib.sha256(name.encode()).hexdigest() + "\n")
        (folder / name).chmod(0o600)
    chance, made = random.Random(seed), []
    while len(made) < count:
        path = folder / f"random-{seed}-{len(made)}.toml"
        path.write_text(Writer(chance).policy())
        checked = subprocess.run([toctoc, "render", str(path)], capture_output=True, text=True)
        if checked.returncode == 0:
            made.append(path)
    return made
