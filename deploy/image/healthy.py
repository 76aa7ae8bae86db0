"""Exit 0 if the stage of this container says that it is healthy."""

import os
import sys
import urllib.request

url = f"http://127.0.0.1:{os.environ.get('EARLYBIRD_HTTP__PORT', '9464')}/healthz"
try:
    urllib.request.urlopen(url, timeout=2).close()
except OSError as error:
    sys.exit(f"{url}: {error}")
