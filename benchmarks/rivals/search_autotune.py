"""Let pytorch-autotune search on a batch, as its documentation does, with the default budget and without its cache."""

from time import perf_counter

import torch
from pytorch_autotune import autotune
from torch.utils.data import DataLoader
from training import answer, given, make_dataset, make_network


def search() -> None:
    job, folder = given()
    torch.manual_seed(0)
    model = make_network(job, folder).cuda().train()
    loader = DataLoader(make_dataset(job, folder), batch_size=job.batch_size, shuffle=True, drop_last=True)
    images, labels = next(iter(loader))
    started = perf_counter()
    result = autotune(model, (images, labels), optimizer="adamw", lr=1e-3, cache=False)
    seconds = perf_counter() - started
    config = result.config
    tuned = config.precision != "fp32_default"
    dtype = {"amp_bf16": "bfloat16", "amp_fp16": "float16"}.get(config.precision, "")
    answer(
        {
            "choice": {
                "amp": dtype,
                "scaler": dtype == "float16",
                "channels_last": config.channels_last,
                "compile": "" if config.compile == "off" else config.compile,
                "fused": config.fused_opt,
                "tf32": tuned,
                "cudnn_benchmark": tuned,
            },
            "recommended": config.label,
            "says": result.report.summary(),
            "seconds": seconds,
            "starts": 0,
            "saw": result.report.to_dict(),
        }
    )


if __name__ == "__main__":
    search()
