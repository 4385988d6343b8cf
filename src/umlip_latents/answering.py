"""What the Python of an environment runs: one command after the other, while it is asked."""

import json
import signal
import sys

from .cli import main
from .models.remote import END, IDLE

if __name__ == "__main__":
    for line in sys.stdin:
        signal.alarm(0)
        print(f"\n{END}{main(json.loads(line))}", flush=True)
        signal.alarm(IDLE)
