"""`python -m predictor --model_dir weights/embedded`: the predictor's process."""

import sys

from predictor.checkpoint import UnsupportedCheckpoint
from predictor.edge import configure_logging
from predictor.edge.server import PortInUse
from predictor.looks import UnusableLook
from predictor.server import build_server
from predictor.settings import read_settings
from weights.errors import WeightsError


def main() -> None:
    """Serve until SIGTERM or Ctrl-C; what cannot start ends with one line that says why."""
    settings = read_settings(sys.argv[1:])
    configure_logging(settings.log_format)
    try:
        build_server(settings).start()
    except (UnsupportedCheckpoint, UnusableLook, WeightsError, PortInUse) as error:
        sys.exit(f"predictor: {error}")


if __name__ == "__main__":
    main()
