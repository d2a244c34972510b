"""Which systems there are: the worker that runs each, its environment, its settings, its versions.

This is the one place for versions. ``torch`` is what the driver runs on, in every environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ENVIRONMENTS", "OURS", "SYSTEMS", "Environment", "System"]


@dataclass(frozen=True)
class Environment:
    """Packages of one rival.

    Args:
        packages: what pip installs, besides torch.
        remove: what it installs with them and must go.
    """

    packages: tuple[str, ...]
    remove: tuple[str, ...] = ()


@dataclass(frozen=True)
class System:
    """One row of the table.

    Args:
        title: how the table names it.
        worker: the file in ``workers/``.
        environment: its name in ``ENVIRONMENTS``; None is the driver's own environment.
        converted: name of its own form of the checkpoint, shared by all that say the same.
        converter: the file in ``workers/`` that writes that form; None is ``worker``.
        one_form: that form serves every dtype.
        settings: what the worker is told.
        variables: of its process.
        tuned_malloc: its process keeps memory, see ``worker_process.TUNED_MALLOC``.
    """

    title: str
    worker: str
    environment: str | None = None
    converted: str | None = None
    converter: str | None = None
    one_form: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    tuned_malloc: bool = True


ENVIRONMENTS = {
    "openvino": Environment(
        ("optimum-intel==2.2.0", "openvino==2026.4.1", "openvino-genai==2026.4.1.0"),
        # It comes with optimum-intel, is not needed, and fails to load beside a CPU build of torch.
        remove=("torchvision",),
    ),
    "onnxruntime": Environment(
        ("optimum-onnx==0.1.0", "onnxruntime==1.32.0", "onnx==1.23.2", "transformers==4.57.6")
    ),
    "ctranslate2": Environment(("ctranslate2==4.8.5", "transformers==5.5.4")),
    # The wheels of one minor version of torch: 2.13.
    "zentorch": Environment(("zentorch==2.13.0.2", "transformers==5.23.0")),
}

OURS = "masked_attn"
LEVELS = {"padding_free": True, "fuse_activation": True, "fast_linear": True, "cache_dtype": None}


def _stock(title: str, *, tuned_malloc: bool = True, **settings: Any) -> System:
    return System(title, "hugging_face", settings=settings, tuned_malloc=tuned_malloc)


def _openvino(title: str, worker: str, **settings: Any) -> System:
    return System(
        title,
        worker,
        "openvino",
        converted="openvino",
        converter="openvino_optimum",
        settings=settings,
    )


def _ctranslate2(title: str, *, rows: int = 0, workers: int = 1, **variables: str) -> System:
    return System(
        title,
        "ctranslate",
        "ctranslate2",
        converted="ctranslate2",
        settings={"rows": rows, "workers": workers},
        variables=variables,
    )


# Constant weights are laid out for the CPU. What an earlier run left on the disk would make the
# first call look short.
COMPILED = {"TORCHINDUCTOR_FREEZING": "1", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}

SYSTEMS = {
    OURS: _stock("masked_attn", patch=LEVELS),
    "masked_attn-malloc": _stock("masked_attn, plain malloc", tuned_malloc=False, patch=LEVELS),
    "eager": _stock("stock eager", attention="eager"),
    "sdpa": _stock("stock sdpa"),
    "sdpa-malloc": _stock("stock sdpa, plain malloc", tuned_malloc=False),
    "static": _stock("stock sdpa, static cache", static=True),
    "static-malloc": _stock(
        "stock sdpa, static cache, plain malloc", tuned_malloc=False, static=True
    ),
    "static-gelu": _stock(
        "stock sdpa, static cache, fused GELU", static=True, activation="gelu_pytorch_tanh"
    ),
    "compile": System(
        "stock sdpa, static cache, compiled",
        "hugging_face",
        settings={"static": True, "compile": "inductor"},
        variables=COMPILED,
    ),
    "zentorch": System(
        "stock sdpa, static cache, compiled by zentorch",
        "hugging_face",
        "zentorch",
        settings={"static": True, "compile": "zentorch"},
        variables=COMPILED,
    ),
    "openvino": _openvino("OpenVINO, optimum", "openvino_optimum"),
    "openvino-genai": _openvino("OpenVINO GenAI, stateful", "openvino_genai", way="stateful"),
    "openvino-paged": _openvino(
        "OpenVINO GenAI, paged",
        "openvino_genai",
        way="paged",
        batched_tokens=8192,
        cache_gigabytes=2,
    ),
    "onnxruntime": System(
        "ONNX Runtime", "onnx_runtime", "onnxruntime", converted="onnxruntime", one_form=False
    ),
    "ctranslate2": _ctranslate2("CTranslate2, one batch"),
    # It takes MKL by itself only where the CPU is Intel's.
    "ctranslate2-mkl": _ctranslate2(
        "CTranslate2, one batch, MKL", CT2_USE_MKL="1", CT2_USE_EXPERIMENTAL_PACKED_GEMM="1"
    ),
    "ctranslate2-rows": _ctranslate2("CTranslate2, two rows at once, alone", rows=1, workers=2),
}
