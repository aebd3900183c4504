"""`python -m predictor --model_dir weights/embedded`: the predictor's process."""

import signal
import sys

from predictor.checkpoint import UnsupportedCheckpoint
from predictor.edge import PortInUse, configure_logging
from predictor.errors import ServingError
from predictor.looks import UnusableLook
from predictor.server import build_server
from predictor.settings import read_settings
from weights.errors import WeightsError


def main() -> None:
    """Serve until SIGTERM or Ctrl-C; what cannot start ends with one line that says why."""
    # a pod's first process ignores SIGTERM by default: loading can be interrupted by it as by Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = read_settings(sys.argv[1:])
    configure_logging(settings.log_format)
    try:
        build_server(settings).start()
    except (UnsupportedCheckpoint, UnusableLook, WeightsError, PortInUse, ServingError) as error:
        sys.exit(f"predictor: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
