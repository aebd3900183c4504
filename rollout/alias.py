"""A weighted alias that the predictors have for the model `emoji`: while it is there, it says which looks are
drawn, and the look that a rollout changes says nothing. Asks pods; changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from rollout.cluster import Cluster
from rollout.diagnosis import is_ready
from rollout.errors import Refused, RolloutError
from rollout.inference_service import LOOK


def refuse_alias(cluster: Cluster, tell: Callable[[str], None]) -> None:
    """Refused where a ready pod has such an alias. One pod of each version is asked: they share a store.

    Args:
        cluster: the InferenceService.
        tell: gets a line for a pod that does not say.
    """
    for version in cluster.read().versions():
        pod = next(filter(is_ready, version.pods), None)
        if pod is None:
            continue
        try:
            shares = cluster.alias(pod)
        except (RolloutError, ValueError) as error:
            tell(f"pod {pod['metadata']['name']} does not say whether `emoji` is a weighted alias ({error})")
            continue
        if shares:
            told = ", ".join(f"{look} {percent} %" for look, percent in shares.items())
            raise Refused(
                f"`emoji` is a weighted alias ({told}), which takes the place of {LOOK}: "
                "`python -m weights route emoji --delete` in the predictors' store ends it"
            )
