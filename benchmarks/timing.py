"""Contestants timed side by side: short blocks in turns, so that what disturbs one disturbs all."""

import argparse
import json
import os
import platform
import random
import statistics
import time

import torch


def alternate(contestants, blocks=15, seconds=0.4):
    """name → ms a call, one figure for each block: every round runs one block of each, in random order.

    Args:
        contestants: name → callable without arguments, warmed up already.
        blocks: rounds.
        seconds: of a block, about.
    """
    calls = {}
    for name, call in contestants.items():
        call()
        began = time.perf_counter()
        call()
        calls[name] = max(1, round(seconds / (time.perf_counter() - began)))
    times = {name: [] for name in contestants}
    for _ in range(blocks):
        for name in random.sample(list(contestants), len(contestants)):
            began = time.perf_counter()
            for _ in range(calls[name]):
                contestants[name]()
            times[name].append(1000 * (time.perf_counter() - began) / calls[name])
    return times


def summary(times):
    """Median, quartiles and minimum of each contestant's blocks."""
    return {
        name: {
            "median": statistics.median(values),
            "low": statistics.quantiles(values, n=4)[0] if len(values) > 1 else values[0],
            "high": statistics.quantiles(values, n=4)[2] if len(values) > 1 else values[0],
            "min": min(values),
        }
        for name, values in times.items()
    }


def ratio(times, one, other):
    """The median over rounds of one's time over the other's in the same round."""
    return statistics.median(a / b for a, b in zip(times[one], times[other]))


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def machine():
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def parser(doc):
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--json", metavar="FILE", help="write every figure there")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch (default: all cores)")
    p.add_argument("--blocks", type=int, default=15, help="rounds")
    return p


def write(path, content):
    if path:
        with open(path, "w") as file:
            json.dump({"machine": machine()} | content, file, indent=2)
            file.write("\n")
