#!/usr/bin/env python3
"""Preprocess against OpenCV, on the same bytes, one thread each, in one run.

In: the watchpost binary, optionally a raw NV12 frame. Out: medians in milliseconds, their ratio, and how far the
two tensors are apart. Needs numpy and opencv-python-headless. The two take turns, so that whatever else the
machine does falls on both; of each the best round's median counts. OpenCV writes into buffers that it keeps, and
the C library is told to keep memory too, so that no page faults are charged to it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "4000000000"}
if any(os.environ.get(key) != value for key, value in KEEP_MEMORY.items()):
    os.execve(sys.executable, [sys.executable] + sys.argv, {**os.environ, **KEEP_MEMORY})

import cv2  # noqa: E402
import numpy as np  # noqa: E402


class Letterbox:
    """What one writes with OpenCV: cvtColor, resize into a padded picture, blobFromImage."""

    def __init__(self, width, height, side_x, side_y):
        scale = min(side_x / width, side_y / height)
        w, h = round(width * scale), round(height * scale)
        left, top = (side_x - w) // 2, (side_y - h) // 2
        self.bgr = np.empty((height, width, 3), np.uint8)
        self.padded = np.full((side_y, side_x, 3), 114, np.uint8)
        self.inside = self.padded[top : top + h, left : left + w]
        self.size = (w, h)

    def __call__(self, frame):
        cv2.cvtColor(frame, cv2.COLOR_YUV2BGR_NV12, dst=self.bgr)
        cv2.resize(self.bgr, self.size, dst=self.inside, interpolation=cv2.INTER_LINEAR)
        return cv2.dnn.blobFromImage(self.padded, 1 / 255.0, swapRB=True)


def smooth_frame(width, height):
    """A frame with edges and gradients, so that the tensors can be compared."""
    y, x = np.mgrid[0:height, 0:width]
    luma = (((x // 40 + y // 40) % 2) * 120 + x * 80 // width + 20).astype(np.uint8)
    chroma = np.empty((height // 2, width), np.uint8)
    chroma[:, 0::2] = 90 + (x[: height // 2, : width // 2] * 70 // (width // 2))
    chroma[:, 1::2] = 90 + (y[: height // 2, : width // 2] * 70 // (height // 2))
    return np.concatenate([luma, chroma])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("watchpost", help="the binary")
    parser.add_argument("--nv12", help="raw NV12 frame; default: one made here")
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--input", default="640x640")
    parser.add_argument("--repeat", type=int, default=100, help="runs of each kind a round")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    side_x, side_y = map(int, args.input.split("x"))
    cv2.setNumThreads(1)
    if args.nv12:
        frame = np.fromfile(args.nv12, np.uint8).reshape(height * 3 // 2, width)
    else:
        frame = smooth_frame(width, height)
    letterbox = Letterbox(width, height, side_x, side_y)
    with tempfile.TemporaryDirectory() as folder:
        bytes_file, tensor_file = os.path.join(folder, "frame.nv12"), os.path.join(folder, "tensor.f32")
        frame.tofile(bytes_file)
        command = [args.watchpost, "bench", "preprocess", "--nv12", bytes_file, "--size", args.size]
        command += ["--input", args.input, "--repeat", str(args.repeat), "--dump", tensor_file, "--json"]
        ours, theirs = [], []
        for _ in range(args.rounds):
            times = []
            for _ in range(args.repeat):
                begin = time.perf_counter()
                blob = letterbox(frame)
                times.append((time.perf_counter() - begin) * 1e3)
            theirs.append(statistics.median(times))
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            report = json.loads(output)
            ours.append(report["fused_ms"])
        tensor = np.fromfile(tensor_file, np.float32).reshape(blob.shape)
    off = np.abs(tensor - blob) * 255
    our, their = min(ours), min(theirs)
    print(f"preprocess, one thread, {args.size} NV12 in memory to {args.input} f32 letterbox:")
    print(f"  OpenCV {cv2.__version__} cvtColor + resize + blob  {their:7.3f} ms")
    print(f"  Watchpost, fused pass ({report['isa']})                  {our:7.3f} ms")
    print(f"  {their / our:.2f} × faster (budget: 3 × or more)")
    print(f"  the tensors differ by {off.mean():.3f} of 255 on average")
    return 0


if __name__ == "__main__":
    sys.exit(main())
