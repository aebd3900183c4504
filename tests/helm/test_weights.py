"""Where the chart's weights and translator come from, and how long they may take to load."""

import pytest

from tests.manifests.render import helm, one, template

pytestmark = pytest.mark.manifests


def _startup(*sets: str) -> tuple[int, str | None]:
    """Seconds that a predictor has to load its weights in, and Knative's deadline for all of its start."""
    objects = helm(*sets)
    probe = one(objects, "ServingRuntime", "emoji-diffusion")["spec"]["containers"][0]["startupProbe"]
    annotations = one(objects, "InferenceService", "emoji")["spec"]["predictor"].get("annotations", {})
    deadline = annotations.get("serving.knative.dev/progress-deadline")
    return probe["periodSeconds"] * probe["failureThreshold"], deadline


def test_weights_that_load_slowly_are_given_time() -> None:
    slow = "predictor.startupSeconds=1800"
    assert _startup() == (300, None), "Knative's own deadline is ten minutes"
    assert _startup(slow) == (1800, "2100s")
    assert _startup(slow, "mode=Standard") == (1800, None)


def test_a_translator_is_mounted_where_its_flag_says() -> None:
    sets = ("translation.backend=seq2seq", "translation.storageUri=pvc://opus")
    for mode in ("Knative", "Standard"):
        objects = helm(f"mode={mode}", *sets)
        spec = one(objects, "InferenceService", "emoji")["spec"]
        if mode == "Knative":
            holder, arguments = spec["transformer"], spec["transformer"]["containers"][0]["args"]
        else:
            holder = spec["predictor"]
            arguments = one(objects, "ServingRuntime", "emoji-diffusion")["spec"]["containers"][1]["args"]
        assert {"uri": "pvc://opus", "mountPath": "/mnt/models/translator"} in holder["storageUris"]
        assert {"--translator=seq2seq", "--translator_dir=/mnt/models/translator"} <= set(arguments)


def test_what_is_downloaded_comes_before_claims() -> None:
    # KServe 0.20 takes the settings of its downloading container, such as a securityContext, by the first URI
    sets = ("weights.copyEmbedded=false", "weights.base.uri=pvc://base", "weights.loras.uri=s3://looks")
    spec = one(helm(*sets), "InferenceService", "emoji")["spec"]
    assert [uri["uri"] for uri in spec["predictor"]["storageUris"]] == ["s3://looks", "pvc://base"]


def test_claims_below_the_one_volume_of_several_downloads_are_refused() -> None:
    sets = (
        "mode=Standard",
        "weights.copyEmbedded=false",
        "weights.base.uri=s3://base",
        "weights.loras.uri=pvc://looks",
        "translation.backend=seq2seq",
    )
    assert "one volume" in template(*sets, "translation.storageUri=s3://opus", fails=True)
    helm(*sets, "translation.storageUri=pvc://opus")
    helm(*sets[1:], "translation.storageUri=s3://opus")  # Knative mode: in the transformer's pods


def test_a_translator_is_downloaded_with_the_transformers_account() -> None:
    sets = (
        "translation.backend=seq2seq",
        "translation.storageUri=s3://opus",
        "transformer.serviceAccountName=opus",
    )
    objects = helm(*sets)
    assert one(objects, "InferenceService", "emoji")["spec"]["transformer"]["serviceAccountName"] == "opus"
    assert one(objects, "InferenceService", "emoji-grpc")["spec"]["predictor"]["serviceAccountName"] == "opus"
