"""`python -m transformer --predictor_host HOST[:PORT]`: the transformer's process."""

import gc
import os
import signal
import sys


def main() -> None:
    """Serve until SIGTERM or Ctrl-C; what cannot start ends with one line that says why."""
    # A pod's first process ignores SIGTERM unless it handles it, which the server will once it is loaded.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    gc.disable()  # until all is imported: to look for garbage in it time and again takes a tenth of the start
    try:
        _serve()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _serve() -> None:
    from predictor.edge import PortInUse, configure_logging
    from transformer.server import build_server
    from transformer.settings import read_settings

    gc.freeze()  # what is imported stays: no request is to wait until all of it was looked through
    gc.enable()
    settings = read_settings(sys.argv[1:])
    configure_logging(settings.log_format)
    try:
        server = build_server(settings)
    except (ValueError, OSError) as error:
        sys.exit(f"transformer: {error}")
    try:
        server.start()
    except (PortInUse, OSError) as error:
        sys.exit(f"transformer: {error}")


if __name__ == "__main__":
    main()
