"""The gateway with mainstay and without under load: see README.md. Started by `run`, which builds the programs."""

import argparse
import ctypes
import glob
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import typing

HERE = os.path.dirname(os.path.abspath(__file__))
# What is measured: the server itself, the proxy with mainstay, and the proxy without it twice. The difference of the
# last two is the noise.
DIRECT, ON, OFF, AGAIN = "direct", "on", "off", "off, again"
FIGURES = ("rps", "p50", "p99", "cpu")
TICK = os.sysconf("SC_CLK_TCK")


def die_with_us():
    """In the child: killed when this program ends, however it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Server:
    """A program that says on which port it listens. A port of 0 takes a free one."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_us)
        found = re.search(r"listening on (?:http://)?([\d.]+:\d+)", self.process.stdout.readline())
        if not found:
            self.stop()
            raise SystemExit(f"{command[0]} did not say where it listens")
        self.at = found[1]

    def cpu(self):
        """Seconds on a core so far, user and system: in nanoseconds where the kernel counts those, else in ticks."""
        process, ran = f"/proc/{self.process.pid}", 0
        try:
            for path in glob.glob(f"{process}/task/*/schedstat"):
                with open(path) as file:
                    ran += int(file.read().split()[0])
        except OSError:
            ran = 0
        if ran:
            return ran / 1e9
        with open(f"{process}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Servers:
    """All that is under way, and ends at the end of the block."""

    def __init__(self, options):
        self.options, self.running = options, []

    def start(self, program, *arguments):
        server = Server(os.path.join(self.options.programs, program), *arguments)
        self.running.append(server)
        return server

    def gateway(self, upstream, *arguments):
        return self.start("gateway", "--listen", "127.0.0.1:0", "--upstream", f"http://{upstream.at}", *arguments)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.running:
            server.stop()


class Wrk:
    """One run against one server: requests per second, and for each microseconds of latency and of CPU time."""

    def __init__(self, server, load, seconds):
        self.server, self.before = server, server.cpu()
        command = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", "-s", os.path.join(HERE, "load.lua")]
        env = {**os.environ, "RATE": str(load.rate or 0)}
        self.process = subprocess.Popen([*command, f"http://{server.at}/"], stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, env=env, preexec_fn=die_with_us)

    def figures(self):
        told = self.process.communicate()[0]
        spent = self.server.cpu() - self.before
        done = re.search(r"^DONE (.*)$", told, re.MULTILINE)
        if not done:
            raise SystemExit(f"wrk told nothing:\n{told}")
        run = json.loads(done[1])
        requests = run["requests"]
        if run["failed"] or not requests:
            raise SystemExit(f"{run['failed']} of {requests} requests failed: nothing to compare\n{told}")
        return {"rps": requests / run["micros"] * 1e6, "p50": run["p50"], "p99": run["p99"],
                "cpu": spent / requests * 1e6}


class Load(typing.NamedTuple):
    # Requests per second, or none: as fast as they are answered.
    rate: int | None
    connections: int
    # Whether all servers have it at the same time, and the same neighbours.
    together: bool = False

    def __str__(self):
        many = f"{self.connections} connection{'s' if self.connections > 1 else ''}"
        load = f"{self.rate:,} req/s, {many}" if self.rate else f"closed loop, {many}"
        return f"{load}, all at once" if self.together else load


def measure(load, order, seconds):
    """The figures of each server under a load."""
    if load.together:
        started = [(name, Wrk(server, load, seconds)) for name, server in order if name != DIRECT]
        return [(name, run.figures()) for name, run in started]
    return [(name, Wrk(server, load, seconds).figures()) for name, server in order]


def measure_round(options, number, runs):
    """Every load against each server. The programs are fresh, so that where they lie in memory is part of the noise."""
    with Servers(options) as servers:
        upstream = servers.start("load_upstream", str(options.bytes))
        config = ["--config", options.config] if options.config else []
        on = servers.gateway(upstream, *config)
        off, again = (servers.gateway(upstream, "--passthrough") for _ in range(2))
        order = [(ON, on), (OFF, off), (AGAIN, again)]
        # Each comes first, second and last equally often, and each before the other: what drifts cancels out.
        order = order[number // 2 % 3:] + order[:number // 2 % 3]
        if number % 2:
            order.reverse()
        if number < 2:
            order.append((DIRECT, upstream))
        measure(Load(None, max(options.connections)), order, 1)
        for load in loads(options):
            for name, figures in measure(load, order, options.seconds):
                runs.setdefault(load, {}).setdefault(name, []).append(figures)


def loads(options):
    """Fixed rates first, then each connection as fast as it is answered, then both for all servers at once."""
    yield from (Load(rate, options.rate_connections) for rate in options.rates)
    yield from (Load(None, connections) for connections in options.connections)
    if options.together:
        yield from (Load(options.together, 16, True), Load(None, 16, True))


def summary(values):
    """The median, and half of the distance in which the middle half of the rounds lies."""
    if len(values) < 2:
        return {"median": values[0], "spread": 0.0}
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": statistics.median(values), "spread": (high - low) / 2}


def differences(of, to):
    """By how many percent each round differs, the rounds being pairs."""
    return [(a / b - 1) * 100 for a, b in zip(of, to)]


def compare(servers):
    """What one load came to."""
    table = {name: {figure: summary([run[figure] for run in runs]) for figure in FIGURES}
             for name, runs in servers.items()}
    compared = {}
    for figure in FIGURES:
        on, off, again = ([run[figure] for run in servers[name]] for name in (ON, OFF, AGAIN))
        noise = differences(again, off)
        change = differences(on, [(a + b) / 2 for a, b in zip(off, again)])
        compared[figure] = {"on_off": summary(change), "off_off": summary(noise)}
    return {"servers": table, "percent": compared}


def markdown(results, options):
    print(f"Medians of {options.rounds} rounds of {options.seconds} s, ± half of what the middle half of them spans. "
          "CPU is the time of the server under load, user and system.\n")
    print("| load | server | req/s | p50, us | p99, us | CPU, us/request |")
    print("|---|---|--:|--:|--:|--:|")
    for load, result in results.items():
        for name in (DIRECT, OFF, ON):
            row = result["servers"].get(name)
            if row:
                cells = [f"{row[f]['median']:,.{d}f} ± {row[f]['spread']:,.{d}f}"
                         for f, d in zip(FIGURES, (0, 0, 0, 2))]
                print(f"| {load} | {name} | {' | '.join(cells)} |")
    print("\nHow mainstay differs from the proxy without it, round by round, and in brackets how that differs from "
          "itself: the median ± half of what the middle half spans.\n")
    print("| load | req/s | p50 | p99 | CPU/request |")
    print("|---|--:|--:|--:|--:|")
    for load, result in results.items():
        cells = []
        for figure in FIGURES:
            on, off = (result["percent"][figure][key] for key in ("on_off", "off_off"))
            cells.append(f"{on['median']:+.1f} % ± {on['spread']:.1f} ({off['median']:+.1f} % ± {off['spread']:.1f})")
        print(f"| {load} | {' | '.join(cells)} |")


def csv(results):
    print("load,server,figure,median,spread")
    for load, result in results.items():
        start = f"\"{load}\""
        for name, row in result["servers"].items():
            for figure in FIGURES:
                value = row[figure]
                print(f"{start},\"{name}\",{figure},{value['median']:.3f},{value['spread']:.3f}")
        for figure in FIGURES:
            for key, value in result["percent"][figure].items():
                percent = f"{value['median']:.3f},{value['spread']:.3f}"
                print(f"{start},{key} percent,{figure},{percent}")


def numbers(text):
    return [int(part) for part in text.split(",") if part]


def arguments():
    parser = argparse.ArgumentParser(prog="benches/load/run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="a multiple of 6 tries every order once (default 6)")
    parser.add_argument("--seconds", type=int, default=1, help="of each run of wrk (default 1)")
    parser.add_argument("--rates", type=numbers, default=[1000, 5000, 10000], help="requests per second")
    parser.add_argument("--connections", type=numbers, default=[1, 16, 64], help="of the closed loops")
    parser.add_argument("--rate-connections", type=int, default=64, help="that share a rate (default 64)")
    parser.add_argument("--together", type=int, default=2000, help="requests per second of each when all servers are "
                        "under load at once (default 2000; 0 for none)")
    parser.add_argument("--bytes", type=int, default=128, help="of an answer (default 128)")
    parser.add_argument("--config", help="settings for the gateway with mainstay (default: its own, a breaker)")
    parser.add_argument("--format", choices=("markdown", "json", "csv"), default="markdown")
    parser.add_argument("--programs", default="target/release/examples", help="where they were built")
    return parser.parse_args()


def main():
    options = arguments()
    # An end of this program like any other, at which the servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    runs = {}
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
        measure_round(options, number, runs)
    results = {load: compare(servers) for load, servers in runs.items()}
    if options.format == "json":
        rows = [{**load._asdict(), **result} for load, result in results.items()]
        print(json.dumps({"rounds": options.rounds, "seconds": options.seconds, "loads": rows}))
    elif options.format == "csv":
        csv(results)
    else:
        markdown(results, options)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
