"""``python -m tests.soak [MINUTES]``: sessions by the hundred through every fault there is, and what was lost of them.

Exit status 1 where anything was lost, doubled or out of order, where a call failed, or a thread or a descriptor stayed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.soak.census import Census, resident_mib
from tests.soak.life import Walk, make_client
from tests.soak.plan import plan
from tests.soak.witness import Witness

if TYPE_CHECKING:
    from tests.soak.verdict import Verdict

_ROOT = Path(__file__).parents[2]
_STEPS = 50
"""The most steps of a life."""
_MANY = 20
"""So many bad lives say enough."""
_DROPS = 1000
"""Fewer drops prove little: a run of ten minutes has several times as many."""


class Server:
    """The server's process."""

    def __init__(self, certificates: str | None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.server", *([certificates] if certificates else [])],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()
        self.settings: dict[str, Any] = json.loads(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server's process ended with {self._process.wait()}")
        return line

    def order(self, do: str, **options: Any) -> Any:
        """Give an order and wait until it is carried out."""
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps({"do": do, **options}) + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._read())
        if "error" in answer:
            raise RuntimeError(f"{do} {options}: {answer['error']}")
        return answer["answer"]

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.stdout.close()


class Soak:
    """One run."""

    def __init__(self, options: argparse.Namespace, certificates: str | None) -> None:
        self._seed: int = options.seed
        self._slots: int = options.sessions
        self._chosen = bool(options.life)
        self._numbers = iter(options.life) if options.life else itertools.count(1)
        self._taking = threading.Lock()
        self._starting = threading.Lock()
        self._stop = threading.Event()
        self._began = time.monotonic()
        self._open = 0
        self._shown = 0.0
        self.witness = Witness()
        self.bad: list[Verdict] = []
        self.ended = 0
        self.server = Server(certificates)
        self.resident: list[tuple[float, float]] = []

    def run(self, seconds: float) -> dict[str, Any]:
        """Warm up, come to rest, count; run, come to rest, count."""
        before = Census.take()
        with make_client(self.server.settings, self.witness) as client:
            if not self._chosen:
                self._phase(client, min(300.0, seconds / 5))
            warm, warm_at = Census.take(), self._elapsed
            self._say(f"warm, and at rest: {warm}")
            self._phase(client, seconds - self._elapsed)
            rest = Census.take()
        after = Census.take()
        self._say(f"at rest: {rest}")
        return self._figures(before, warm, warm_at, rest, after)

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _phase(self, client: Any, seconds: float) -> None:
        """Let so many lives at once be lived for some time."""
        self._stop.clear()
        until = self._elapsed + seconds
        workers = [threading.Thread(target=self._work, args=(client,), daemon=True) for _ in range(self._slots)]
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            time.sleep(0.2)
            if self._elapsed >= until or len(self.bad) >= _MANY:
                self._stop.set()
            assert self._elapsed < until + 240, "a life does not come to its end"
            if self._elapsed - self._shown >= 10:
                self._show()
        for worker in workers:
            worker.join()
        self._show()

    def _work(self, client: Any) -> None:
        while not self._stop.is_set():
            with self._taking:
                number = next(self._numbers, None)
                if number is None:
                    return
                self._open += 1
            life = plan(self._seed, number, _STEPS)
            settings, witness, order = self.server.settings, self.witness, self.server.order
            verdict = Walk(life, client, settings, witness, order, self._starting, self._stop).live()
            with self._taking:
                self._open -= 1
                self.ended += 1
                if not verdict.good:
                    self.bad.append(verdict)
            for line in verdict.lines():
                self._say(line)

    # --- telling ---

    def _say(self, text: str) -> None:
        print(f"[{self._elapsed:6.0f} s] {text}", file=sys.stderr, flush=True)

    def _zeros(self) -> dict[str, int]:
        return {
            "lost": sum(len(one.lost) for one in self.bad),
            "doubled": sum(len(one.doubled) for one in self.bad),
            "out_of_order": sum(len(one.disordered) for one in self.bad),
            "failed": sum(len(one.failed) for one in self.bad),
        }

    def _show(self) -> None:
        self._shown = self._elapsed
        self.resident.append((round(self._elapsed, 1), round(resident_mib(), 1)))
        counts = self.witness.snapshot()
        zeros = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in self._zeros().items())
        self._say(
            f"{counts.get('sessions', 0)} sessions ({self._open} open), {counts.get('messages', 0)} messages sent, "
            f"{counts.get('drops', 0)} drops, {counts.get('resends', 0)} sent again; {zeros}; "
            f"{threading.active_count()} threads, {self.resident[-1][1]} MiB"
        )

    def _figures(self, before: Census, warm: Census, warm_at: float, rest: Census, after: Census) -> dict[str, Any]:
        counts = self.witness.snapshot()
        started, resumed = counts.get("sessions", 0), counts.get("resumes", 0)
        return {
            "seed": self._seed,
            "minutes": round(self._elapsed / 60, 1),
            "sessions_at_once": self._slots,
            "sessions": started,
            "resumes": resumed,
            "messages_sent": counts.get("messages", 0),
            "messages_received": counts.get("received", 0),
            "events": counts.get("events", 0),
            "drops": counts.get("drops", 0),
            "reconnects": counts.get("connects", 0) - started - resumed,
            "resends": counts.get("resends", 0),
            "errors_met": dict(sorted(self.witness.codes.items())),
            **self._zeros(),
            "threads": [before.threads, after.threads],
            "descriptors": [before.descriptors, after.descriptors],
            "resident_mib": [round(warm.resident, 1), round(rest.resident, 1)],
            "growth_mib": round(rest.resident - warm.resident, 1),
            "objects": [warm.objects, rest.objects],
            "warm_after_s": round(warm_at),
            "resident_over_time": self.resident[::6],
            "machine": _machine(),
        }


def _machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "polyai_sync": importlib.metadata.version("polyai-sync"),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("minutes", nargs="?", type=float, default=10.0, help="how long (default 10)")
    parser.add_argument("--sessions", type=int, default=24, help="sessions at once (default 24)")
    parser.add_argument("--seed", type=int, default=20260, help="what happens is drawn from it (default 20260)")
    parser.add_argument("--life", type=int, action="append", help="only the life of that number, as often as given")
    parser.add_argument("--tls", action="store_true", help="over TLS (needs trustme)")
    parser.add_argument("--json", type=Path, help="where the figures go")
    return parser.parse_args()


def main() -> int:
    """Run, tell, and judge."""
    options = _arguments()
    with tempfile.TemporaryDirectory(prefix="polyai-soak-") as folder:
        soak = Soak(options, folder if options.tls else None)
        try:
            figures = soak.run(options.minutes * 60)
        finally:
            soak.server.stop()
    figures["command"] = shlex.join(["tox", "-e", "soak", "--", *sys.argv[1:]])
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, value in figures.items():
        if name != "resident_over_time":
            print(f"{name:18} {value}")
    complaints = [line for verdict in soak.bad for line in verdict.lines()]
    complaints += [
        f"{name}: {figures[name][0]} at the start and {figures[name][1]} at the end"
        for name in ("threads", "descriptors")
        if figures[name][0] != figures[name][1]
    ]
    if options.minutes >= 10 and figures["drops"] < _DROPS:
        complaints.append(f"only {figures['drops']} drops, and {_DROPS} are the least that says something")
    for line in complaints:
        print(line)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
