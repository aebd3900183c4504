"""The wire contract of the predictor: Open Inference Protocol tensors, KServe v1 instances, their limits.

Both the predictor and whoever calls it (the transformer) import this package; it knows no torch, no
LoRA file and no server.
"""

from predictor.contract.body import (
    InferBody,
    binary_outputs,
    decode_body,
    encode_body,
    parse_json,
)
from predictor.contract.fields import (
    APPROXIMATION,
    EXACT,
    FEW_STEPS,
    INPUTS,
    NO_LORA,
    OUTPUTS,
    Field,
    Value,
)
from predictor.contract.mix import MIX, Mix, read_mix, version_label, write_mix
from predictor.contract.pictures import MAX_TIMEOUT, PRIORITIES, Limits, PictureRequest, check_pictures
from predictor.contract.request import (
    TENANT_HEADER,
    infer_request,
    read_instances,
    read_tensors,
    requested_outputs,
    tenant,
    with_key,
)
from predictor.contract.response import EXACTLY, Label, infer_response, predictions

__all__ = [
    "APPROXIMATION",
    "EXACT",
    "EXACTLY",
    "FEW_STEPS",
    "INPUTS",
    "MAX_TIMEOUT",
    "MIX",
    "NO_LORA",
    "OUTPUTS",
    "PRIORITIES",
    "TENANT_HEADER",
    "Field",
    "InferBody",
    "Label",
    "Limits",
    "Mix",
    "PictureRequest",
    "Value",
    "binary_outputs",
    "check_pictures",
    "decode_body",
    "encode_body",
    "infer_request",
    "infer_response",
    "parse_json",
    "predictions",
    "read_instances",
    "read_mix",
    "read_tensors",
    "requested_outputs",
    "tenant",
    "version_label",
    "with_key",
    "write_mix",
]
