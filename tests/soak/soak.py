"""The gateway with two servers behind it, under load, while the servers are killed, started again, hung, slowed and cut
off. Afterwards no answer was wrong, nothing is held, and the memory is what it was. Started by `run`."""

import argparse
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
BYTES = 512
CONNECTIONS = 64
SPACE, OURS, THEIRS = "mainstay-soak", "10.213.77.1", "10.213.77.2"
SETTINGS = """
timeout = "2s"
attempt_timeout = "500ms"
[load_shed]
in_flight = 512
[retry]
attempts = 3
backoff = { kind = "exponential", initial = "5ms", factor = 2.0, cap = "50ms" }
budget = { ratio = 0.2, min_per_second = 10, cap = 100 }
[hedge]
percentile = 99.0
min_delay = "20ms"
budget = { ratio = 0.05 }
[breaker]
window = { time = "2s" }
failure_rate = 0.5
minimum_calls = 20
open_for = "500ms"
open_jitter = 0.2
[bulkhead]
limit = 128
max_queue = 64
max_wait = "100ms"
"""


def die_with_us():
    """In the child: killed when this program ends, however it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def ip(*words):
    subprocess.run(["ip", *words], check=True)


class Server:
    """A server in the other namespace, which comes back at the same port."""

    def __init__(self, program, port):
        self.command = ["ip", "netns", "exec", SPACE, program, str(BYTES), f"{THEIRS}:{port}"]
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_us)
        if "listening" not in self.process.stdout.readline():
            raise SystemExit("a server did not start")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def hang(self):
        self.process.send_signal(signal.SIGSTOP)

    def turn(self):
        """Slow, or not any more."""
        self.process.send_signal(signal.SIGUSR1)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)


class Network:
    """The way to the servers, which can be cut."""

    def __init__(self):
        subprocess.run(["ip", "netns", "del", SPACE], stderr=subprocess.DEVNULL, check=False)
        ip("netns", "add", SPACE)
        ip("link", "add", "soak0", "type", "veth", "peer", "name", "soak1", "netns", SPACE)
        ip("addr", "add", f"{OURS}/24", "dev", "soak0")
        ip("link", "set", "soak0", "up")
        ip("-n", SPACE, "addr", "add", f"{THEIRS}/24", "dev", "soak1")
        ip("-n", SPACE, "link", "set", "soak1", "up")
        ip("-n", SPACE, "link", "set", "lo", "up")

    def cut(self, on):
        """Nothing arrives any more, and nobody is told."""
        ip("-n", SPACE, "link", "set", "soak1", "down" if on else "up")

    def close(self):
        ip("netns", "del", SPACE)


def health(at):
    try:
        with urllib.request.urlopen(f"http://{at}/-/health", timeout=2) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def held(report):
    """All that a policy says is held or waited for."""
    gauges = {}
    for stack in [report["stack"], *report["servers"]]:
        for policy in ("load_shed", "bulkhead", "concurrency", "breaker"):
            seen = stack.get(policy) or {}
            for gauge in ("in_flight", "running", "waiting", "probes_running"):
                if gauge in seen:
                    name = f"{policy}.{gauge}"
                    gauges[name] = gauges.get(name, 0) + seen[gauge]
    return gauges


def memory(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1])


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--programs", required=True, help=argparse.SUPPRESS)
    options.add_argument("--minutes", type=float, default=10, help="how long, 10 by default")
    given = options.parse_args()
    network = Network()
    try:
        sys.exit(soak(given, network))
    finally:
        network.close()


def soak(given, network):
    one, two = (Server(f"{given.programs}/load_upstream", port) for port in (7001, 7002))
    faults = [
        ("both are well", lambda: None, lambda: None),
        ("one is killed, and comes back", one.kill, one.start),
        ("one hangs, and goes on", one.hang, one.go_on),
        ("one is slow", one.turn, one.turn),
        ("both are slow", lambda: (one.turn(), two.turn()), lambda: (one.turn(), two.turn())),
        ("both are cut off", lambda: network.cut(True), lambda: network.cut(False)),
        ("both are killed, and come back", lambda: (one.kill(), two.kill()), lambda: (one.start(), two.start())),
        ("both hang, and go on", lambda: (one.hang(), two.hang()), lambda: (one.go_on(), two.go_on())),
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as settings:
        settings.write(SETTINGS)
        settings.flush()
        command = [f"{given.programs}/gateway", "--listen", "127.0.0.1:0", "--config", settings.name]
        command += [word for port in (7001, 7002) for word in ("--upstream", f"http://{THEIRS}:{port}")]
        gateway = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=die_with_us
        )
        at = re.search(r"([\d.]+:\d+)", gateway.stdout.readline())[1]
    seconds = given.minutes * 60
    load = ["wrk", "-t2", f"-c{CONNECTIONS}", f"-d{int(seconds)}s", "--timeout", "10s", "-s", f"{HERE}/count.lua"]
    wrk = subprocess.Popen([*load, f"http://{at}/", "--", str(BYTES)], stdout=subprocess.PIPE, text=True,
                           preexec_fn=die_with_us)
    begin, memories, opened, rounds, most = time.monotonic(), [], set(), 0, {}
    while True:
        name, begins, ends = faults[rounds % len(faults)]
        if begin + seconds - time.monotonic() < 25:
            break
        rounds += 1
        begins()
        until = time.monotonic() + 8
        while time.monotonic() < until:
            report = health(at)
            opened |= {breaker["state"] for breaker in report["breakers"]}
            for gauge, value in held(report).items():
                most[gauge] = max(most.get(gauge, 0), value)
            time.sleep(0.5)
        ends()
        time.sleep(4)
        memories.append((time.monotonic() - begin, memory(gateway.pid)))
        print(f"{memories[-1][0]:5.0f} s  {memories[-1][1] / 1024:6.1f} MiB  {name}", flush=True)
    told = wrk.communicate()[0]
    result = json.loads(re.search(r"RESULT (.*)", told)[1])
    requests = int(re.search(r"(\d+) requests in", told)[1])
    # Whatever was sent has ended, one way or another, within the longest of all limits.
    time.sleep(5)
    left = held(health(at))
    last = memory(gateway.pid)
    gateway.kill()
    for server in (one, two):
        server.kill()
    # Two rounds of all faults: what is kept for good is there by then.
    warm = [size for _, size in memories[len(faults): 2 * len(faults)]] or [memories[0][1]]
    grown = last - max(warm)
    print(json.dumps({
        "requests": requests, **result, "faults": rounds, "circuits": sorted(opened), "most": most, "left": left,
        "memory_kib": {"warm": max(warm), "last": last},
    }, indent=1))
    problems = []
    if result["others"] or result["wrong"] or result["s429"]:
        problems.append("answers that nobody should get")
    if any(left.values()):
        problems.append(f"something is held: {left}")
    if grown > 2048:
        problems.append(f"memory grew by {grown} KiB")
    if result["ok"] < requests / 2 or "open" not in opened:
        problems.append("the load or the faults were none")
    print("; ".join(problems) or "well")
    return 1 if problems else 0


main()
