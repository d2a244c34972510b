"""The folder that stands for a kernel of the hub, and where transformers stops other ways."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap

import pytest

from masked_attn import flash

TEXTS = """
import torch
from transformers import DataCollatorWithFlattening, LlamaConfig, LlamaForCausalLM

def model(name):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(0)
    made = LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes, **heads)).eval()
    made.set_attn_implementation(name)
    return made

texts = [torch.randint(50, (n,)).tolist() for n in (5, 9, 2)]
"""


def run(code, path=(), **environment):
    """Output of a program with nothing but its environment changed."""
    paths = [*path, *filter(None, [os.environ.get("PYTHONPATH")])]
    changed = {"PYTHONPATH": os.pathsep.join(map(str, paths)), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", TEXTS + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=os.environ | changed | environment,
    )


def test_the_folder_loads_as_a_module_of_any_name():
    facts = json.loads((flash.HUB_KERNEL / "metadata.json").read_text())
    file = flash.HUB_KERNEL / "__init__.py"
    spec = importlib.util.spec_from_file_location(facts["id"], file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    functions = [name for name in flash.__all__ if name.startswith("flash_attn")]
    assert sorted(module.__all__) == sorted(functions)
    for name in functions:
        assert getattr(module, name) is getattr(flash, name)


def kernels_fit():
    pytest.importorskip("transformers")
    from transformers.utils.import_utils import is_kernels_available

    if not is_kernels_available():
        pytest.skip("no kernels package of a version that this transformers takes")


def test_padding_free_paths_of_transformers_run_on_it():
    kernels_fit()
    code = """
    stock, ours = model("eager"), model("flash_attention_2")
    with torch.no_grad():
        alone = torch.cat([stock(torch.tensor([text])).logits[0] for text in texts])
        for keywords in (False, True):
            collate = DataCollatorWithFlattening(return_flash_attn_kwargs=keywords)
            batch = collate([{"input_ids": text} for text in texts])
            batch.pop("labels")
            torch.testing.assert_close(ours(**batch).logits[0], alone)
        pad = torch.nn.utils.rnn.pad_sequence
        ids = pad([torch.tensor(text[::-1]) for text in texts], True).flip(1)
        mask = pad([torch.ones(len(text)) for text in texts], True).flip(1).long()
        options = {"attention_mask": mask, "max_new_tokens": 6, "do_sample": False}
        assert torch.equal(ours.generate(ids, **options), stock.generate(ids, **options))
    print("right", ours.config._attn_implementation)
    """
    done = run(code, LOCAL_KERNELS=f"kernels-community/flash-attn2={flash.HUB_KERNEL}")
    assert "right kernels-community/flash-attn2" in done.stdout, done.stderr[-2000:]


def test_a_module_called_flash_attn_is_refused_without_a_gpu(tmp_path):
    """If this fails, transformers has a shorter way to them, and docs/flash.md needs a line."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    if torch.cuda.is_available():
        pytest.skip("transformers takes the module where there is a GPU")
    (tmp_path / "flash_attn").mkdir()
    (tmp_path / "flash_attn" / "__init__.py").write_text("from masked_attn.flash import *\n")
    facts = tmp_path / "flash_attn-2.8.3.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: flash-attn\nVersion: 2.8.3\n")
    (facts / "top_level.txt").write_text("flash_attn\n")
    done = run('model("flash_attention_2")', [tmp_path])
    assert "FlashAttention2 is not available on CPU" in done.stderr


def test_a_registered_name_with_flash_in_it_is_taken_for_a_kernel():
    pytest.importorskip("transformers")
    code = """
    from transformers import AttentionInterface
    from transformers.integrations.flash_attention import flash_attention_forward
    AttentionInterface.register("own_flash", flash_attention_forward)
    model("own_flash")
    """
    assert "Could not find the currently requested flash attention" in run(code).stderr
