"""What `neuropbr infer` loads before it predicts: nothing that only other commands need."""

import json
import subprocess
import sys
from pathlib import Path

CODE = """
import json, sys
from neuropbr_core.cli import root
root.main(args=sys.argv[1:], standalone_mode=False)
print(json.dumps(sorted(sys.modules)))
"""
# Converters, loggers, what draws and trains, and PyTorch's compiler with its algebra, which took a third of the start.
HEAVY = {
    "coremltools",
    "datasets",
    "executorch",
    "jsonschema",
    "lightning_fabric",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "pandas",
    "scipy",
    "sklearn",
    "sympy",
    "tensorboard",
    "timm",
    "torch._dynamo",
    "torch._inductor",
    "torch.utils.tensorboard",
    "torchmetrics",
    "torchvision",
    "transformers",
    "wandb",
}


def test_infer_loads_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    photos = Path(__file__).parents[2] / "examples/captures/bricks"
    words = ["infer", str(photos), "--refine", "0", "--device", "cpu", "--output", str(tmp_path / "maps")]
    done = subprocess.run([sys.executable, "-c", CODE, *words], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert loaded & HEAVY == set()
    assert "torch" in loaded
