"""Proof that what the kernel runs is what the rules say. docs/proof-of-rules.md explains it.

    python -m proof policies FILE...     compares these policies; FILE.nft beside one is its script
    python -m proof random COUNT         compares so many random policies
    python -m proof mutants COUNT FILE...  compares so many rulesets of these policies with one change; each must be found
    python -m proof meaning COUNT        tries the meaning of the expressions on the kernel, with so many packets

TOCTOC is the program that renders policies; SEED the first random number; JOBS how many at once.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bytecode import read  # noqa: E402
from compare import Report, prove  # noqa: E402
from meaning import NoMeaning  # noqa: E402
from mutants import mutants, reason_for  # noqa: E402
from policy import Policy  # noqa: E402
from random_policies import make  # noqa: E402

TOCTOC = os.environ.get("TOCTOC", "target/debug/toctoc")
SEED = int(os.environ.get("SEED", "1"))
JOBS = int(os.environ.get("JOBS", "2"))


def script_of(path: Path) -> str:
    """The script of a policy: the golden one beside it, or what the program makes of it now."""
    golden = path.with_suffix(".nft")
    if golden.exists():
        return golden.read_text()
    return subprocess.run([TOCTOC, "render", str(path)], check=True, capture_output=True, text=True).stdout


def prove_file(path: Path) -> tuple[Path, Report, float]:
    begun = time.monotonic()
    report = prove(read(script_of(path)), Policy.read(path))
    return path, report, time.monotonic() - begun


def prove_all(paths: list[Path]) -> bool:
    proved, questions, longest, begun = 0, 0, 0.0, time.monotonic()
    with ProcessPoolExecutor(JOBS) as pool:
        for path, report, seconds in pool.map(prove_file, paths):
            proved += report.proved
            questions += report.questions
            longest = max(longest, seconds)
            word = "proved" if report.proved else "DIFFERS"
            print(f"{path.name}: {word}, {report.questions} questions, {seconds:.1f} s", flush=True)
            for difference in report.differences:
                print(difference)
    seconds = time.monotonic() - begun
    print(
        f"{proved} of {len(paths)} policies proved, {questions} questions, {seconds:.0f} s, at most {longest:.1f} s each"
    )
    return proved == len(paths)


def try_mutant(work: tuple[Path, str, dict]) -> tuple[str, str]:
    path, what, table = work
    place = f"{path.name}: {what}"
    try:
        report = prove(table, Policy.read(path), stop=True)
    except NoMeaning as no_meaning:
        return place, f"refused: {no_meaning}"
    return place, f"refuted: {report.differences[0].where}, {report.differences[0].what}" if report.differences else "SAME"


def try_mutants(paths: list[Path], count: int) -> bool:
    chance, work = random.Random(SEED), []
    for at, path in enumerate(paths):
        table, share = read(script_of(path)), count // len(paths) + (at < count % len(paths))
        work += [(path, what, changed) for what, changed in mutants(table, share, chance)]
    found: dict[str, int] = {"refuted": 0, "refused": 0, "SAME": 0, "same, explained": 0}
    with ProcessPoolExecutor(JOBS) as pool:
        for place, said in pool.map(try_mutant, work):
            if said == "SAME" and (reason := reason_for(place)):
                said = f"same, explained: {reason}"
            found[said.split(":")[0]] += 1
            print(f"{place}: {said}", flush=True)
    print(
        f"{len(work)} mutants: {found['refuted']} refuted, {found['refused']} refused as without meaning, "
        f"{found['same, explained']} that mean the same, {found['SAME']} unexplained"
    )
    return found["SAME"] == 0


def check_meaning(count: int) -> int:
    program = [sys.executable, str(Path(__file__).resolve().parent / "kernel_check.py"), str(count), str(SEED)]
    return subprocess.run(["unshare", "-Urn", *program]).returncode


def main(words: list[str]) -> int:
    match words:
        case ["mutants", count, *files] if files:
            return not try_mutants([Path(one) for one in files], int(count))
        case ["meaning", count]:
            return check_meaning(int(count))
        case ["policies", *files] if files:
            return not prove_all([Path(one) for one in files])
        case ["random", count]:
            return not prove_all(make(int(count), SEED, Path("target/proof/policies"), TOCTOC))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
