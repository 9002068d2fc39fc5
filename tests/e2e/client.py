"""A client that never stops asking: `client.py URL HOST INSTANCE`, here or in a pod (standard library alone).

Twice a second it prints what came of its requests so far, as a line of JSON: how many there were, the answers by what
they say, and what failed.
"""

import json
import sys
import threading
import time
import urllib.request
from collections import Counter

THREADS, PAUSE = 2, 0.02


def rounded(prediction: list[float]) -> str:
    """Probabilities as text, so that one model gives one answer on every machine."""
    return json.dumps([round(share, 2) for share in prediction])


def ask(request: urllib.request.Request) -> str:
    """The prediction for the one instance."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        [prediction] = json.load(answer)["predictions"]
    return rounded(prediction)


def main(url: str, host: str, instance: str) -> None:
    """Ask until killed."""
    body = json.dumps({"instances": [json.loads(instance)]}).encode()
    request = urllib.request.Request(
        url, body, {"Content-Type": "application/json", **({"Host": host} if host else {})}
    )
    answers: Counter[str] = Counter()
    failures: list[str] = []
    lock = threading.Lock()

    def repeat() -> None:
        while True:
            try:
                answer = ask(request)
            except Exception as error:
                with lock:
                    failures.append(f"{time.strftime('%H:%M:%S')} {type(error).__name__}: {error}")
            else:
                with lock:
                    answers[answer] += 1
            time.sleep(PAUSE)

    for _ in range(THREADS):
        threading.Thread(target=repeat, daemon=True).start()
    while True:
        with lock:
            seen = {"sent": answers.total() + len(failures), "answers": dict(answers), "failures": failures[:50]}
        print(json.dumps(seen), flush=True)  # noqa: T201
        time.sleep(0.5)


if __name__ == "__main__":
    main(*sys.argv[1:])
