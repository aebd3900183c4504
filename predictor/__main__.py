"""`python -m predictor --model_dir weights/embedded`: the predictor's process."""

import gc
import logging
import os
import signal
import sys


def main() -> None:
    """Serve until SIGTERM or Ctrl-C; what cannot start ends with one line that says why."""
    # A pod's first process ignores SIGTERM unless it handles it, which the server will once it is loaded.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    gc.disable()  # until all is imported: to look for garbage in it time and again takes a tenth of the start
    try:
        status = _serve()
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    # All is stopped. Python would spend seconds of computing on taking torch's modules apart.
    logging.shutdown()
    sys.stderr.flush()
    os._exit(status)


def _serve() -> int:
    from predictor.allocator import keep_freed_memory
    from predictor.diffusion.checkpoint import UnsupportedCheckpoint
    from predictor.edge import PortInUse, configure_logging
    from predictor.errors import ServingError
    from predictor.looks.looks import UnusableLook
    from predictor.server import UnusableDevice, build_server
    from predictor.settings import read_settings
    from weights.errors import WeightsError

    gc.freeze()  # what is imported stays: to look through it would hold up all requests for half a second
    gc.enable()
    keep_freed_memory()
    settings = read_settings(sys.argv[1:])
    configure_logging(settings.log_format)
    foreseen = (UnsupportedCheckpoint, UnusableDevice, UnusableLook, WeightsError, PortInUse, ServingError)
    try:
        build_server(settings).start()
    except (*foreseen, OSError) as error:
        print(f"predictor: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    main()
