"""Simulated device behind consumer processes, in a process of its own as in `earlybird run`.

    python -m earlybird.stream.bench.device --engine null:70000 CHANNEL ...

It serves until stdin delivers a line or ends. On stdout it prints `{"ready": true}` once it is ready and its
measurements at the end.
"""

import argparse
import json
import sys
import time
from queue import SimpleQueue

from earlybird.engine.runtime import tune_interpreter
from earlybird.stream.adapters.clock import SystemClock
from earlybird.stream.bench.null import NullEncoder, NullEngine, rate_of
from earlybird.stream.consumer_processes.channel import Channel
from earlybird.stream.consumer_processes.engine_server import EngineServer
from earlybird.stream.stage.messages import Failed


def main() -> int:
    """Serve until stdin ends; the exit status is 0 if every request was answered."""
    parser = argparse.ArgumentParser(prog="python -m earlybird.stream.bench.device", description=__doc__)
    parser.add_argument("--engine", required=True)
    parser.add_argument("channels", nargs="+", type=Channel.from_argument)
    args = parser.parse_args()
    failures: SimpleQueue[Failed] = SimpleQueue()
    server = EngineServer(
        args.channels, NullEngine(NullEncoder(), rate_of(args.engine)), 1, SystemClock(), failures.put
    )
    tune_interpreter()
    server.start()
    start_s = time.process_time()
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()
    server.close()
    found = {"cpu_s": time.process_time() - start_s, "texts": server.answered}
    print(json.dumps(found), flush=True)
    return 0 if failures.empty() else 1


if __name__ == "__main__":
    raise SystemExit(main())
