"""The PyTorch side of benchmarks/frameworks.py, in an environment that has torch and timm alone."""

import argparse
import json
import time

import timm
import torch
from torch.nn.functional import cross_entropy, interpolate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("size", "images", "batch", "epochs"):
        parser.add_argument(name, type=int)
    parser.add_argument("--float32", action="store_true")
    arguments = parser.parse_args()
    size, batch = arguments.size, arguments.batch
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_b0", pretrained=False, num_classes=100)
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, weight_decay=0.05)
    pixels = torch.randint(0, 256, (arguments.images, 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(0, 100, (arguments.images,))

    def epoch() -> None:
        for rows in torch.randperm(arguments.images).split(batch):
            images = pixels[rows].to(torch.float32, memory_format=torch.channels_last)
            images = interpolate(images, size=size, mode="bicubic") / 127.5 - 1
            with torch.autocast("cpu", torch.bfloat16, enabled=not arguments.float32):
                loss = cross_entropy(model(images), labels[rows], label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    epoch()
    start = time.perf_counter()
    for _ in range(arguments.epochs - 1):
        epoch()
    elapsed = time.perf_counter() - start
    print(json.dumps(arguments.images * (arguments.epochs - 1) / elapsed))


if __name__ == "__main__":
    main()
