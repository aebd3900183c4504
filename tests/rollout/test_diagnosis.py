import pytest

from rollout.diagnosis import is_ready, plain, why_not_ready


def pod(*containers, conditions=(), **status):
    return {
        "metadata": {"name": "p"},
        "status": {"containerStatuses": list(containers), "conditions": list(conditions), **status},
    }


def container(state, last=None, **fields):
    return {"name": "kserve-container", "ready": False, "state": state, "lastState": last or {}, **fields}


ENDED = {
    "exitCode": 1,
    "reason": "Error",
    "message": "loading\npredictor: no LoRA openmoji@9 in /mnt/models/loras\n",
}


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        (
            pod(
                container({"waiting": {"reason": "CrashLoopBackOff"}}, {"terminated": ENDED}, restartCount=3)
            ),
            "pod p: kserve-container ended with exit status 1, restarted 3 times: "
            "predictor: no LoRA openmoji@9 in /mnt/models/loras",
        ),
        (
            pod(container({"terminated": {"exitCode": 137, "reason": "OOMKilled"}})),
            "pod p: kserve-container ended with exit status 137 (OOMKilled)",
        ),
        (
            pod(
                container({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image x"}})
            ),
            "pod p: kserve-container: ImagePullBackOff: Back-off pulling image x",
        ),
        (
            pod(
                conditions=[
                    {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient cpu."}
                ]
            ),
            "pod p cannot be scheduled: 0/1 nodes: Insufficient cpu.",
        ),
        (pod(container({"waiting": {"reason": "ContainerCreating"}})), "pod p is starting"),
        (pod(container({"running": {}})), "pod p runs and is not ready yet"),
        (pod(phase="Failed", reason="Evicted", message="low on memory"), "pod p failed: low on memory"),
    ],
)
def test_why_a_pod_is_not_ready(subject, why):
    assert why_not_ready([subject]) == why


def test_the_gravest_reason_is_told():
    starting = pod(container({"waiting": {"reason": "ContainerCreating"}}))
    failing = pod(container({"waiting": {"reason": "CrashLoopBackOff"}}, {"terminated": ENDED}))
    assert "exit status 1" in why_not_ready([starting, failing, starting])


def test_ready_and_going_pods_have_no_reason():
    ready = pod(container({"running": {}}, ready=True), conditions=[{"type": "Ready", "status": "True"}])
    going = pod(container({"running": {}}))
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert is_ready(ready)
    assert not is_ready({**ready, "metadata": going["metadata"]})
    assert why_not_ready([ready, going]) is None
    assert why_not_ready([]) is None


def test_a_line_for_terminals_has_no_control_characters_and_an_end():
    assert plain("a\n\x1b[31mred\n\n") == "\ufffd[31mred"
    assert len(plain("x" * 9999)) == 300
    assert plain("\n") == ""
