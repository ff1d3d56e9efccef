"""Scenes for training: rendered by `watchpost scene export`, sent through H.264, cut down to what the models see.

In: a scene URI. Out: under the work folder one `.npz` a scene with (a) every so many frames' letterboxed RGB pictures
and boxes for the detector, (b) the letterboxed luma at the clip model's rate with each frame's fighters for the clip
model. The raw frames live only in a temporary folder. A scene that fails stops the program with the command's output.
"""

import json
import random
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pictures import gray_input, rgb_input

PEOPLE_SIZE = (320, 192)
CLIP_SIZE = (192, 112)
CLIP_FPS = 8.0
# How early a frame may come before its place on the clip's grid, in steps of the grid, as in the daemon.
EARLY = 0.25
MAX_OBJECTS = 32

TRAIN_SEEDS = range(1, 1000)
VALID_SEEDS = range(2001, 2031)
TEST_SEEDS = range(3001, 3021)


def plan(seed, purpose):
    """The URI of a seed's scene. Training scenes vary in size, rate and fights; the others are as the renderer picks."""
    rng = random.Random(seed)
    kind = "ball" if seed % (4 if purpose == "train" else 5) == 0 else "people"
    if purpose == "test":
        return f"scene://{kind}?seed={seed}&size=640x360&fps=25&seconds=60"
    size = rng.choices(["640x360", "1280x720", "640x480", "854x480"], [80, 6, 7, 7])[0]
    fps = rng.choices(["25", "30", "20"], [80, 12, 8])[0]
    uri = f"scene://{kind}?seed={seed}&size={size}&fps={fps}&seconds={'30' if purpose == 'train' else '60'}"
    if purpose == "train" and kind == "people":
        # Crowds hide people more often: there is more to learn from them.
        uri += f"&fights={rng.choices([0, 1, 2], [20, 50, 30])[0]}&people={rng.randint(6, 12)}"
        if rng.random() < 0.1:
            uri += "&cuts=1"
    return uri


def export(binary, uri, folder):
    """Runs `watchpost scene export --raw`; returns the header and the lines of truth.jsonl."""
    command = [str(binary), "scene", "export", "--uri", uri, "--out", str(folder), "--raw"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    lines = (folder / "truth.jsonl").read_text().splitlines()
    return json.loads(lines[0]), [json.loads(line) for line in lines[1:]]


def through_h264(raw, width, height, fps, quality, preset):
    """The same frames after x264 and back, as raw NV12 in place."""
    color = "smpte170m" if height < 720 else "bt709"
    source = ["-f", "rawvideo", "-pix_fmt", "nv12", "-s", f"{width}x{height}", "-r", str(fps), "-i", str(raw)]
    coded = raw.with_suffix(".mkv")
    encode = ["ffmpeg", "-v", "error", "-y", "-threads", "1", *source, "-c:v", "libx264", "-pix_fmt", "yuv420p"]
    encode += ["-preset", preset, "-crf", str(quality), "-threads", "1", "-g", "50", "-color_range", "tv"]
    encode += ["-colorspace", color, str(coded)]
    subprocess.run(encode, check=True)
    decode = ["ffmpeg", "-v", "error", "-y", "-threads", "1", "-i", str(coded), "-fps_mode", "passthrough"]
    decode += ["-f", "rawvideo", "-pix_fmt", "nv12", str(raw)]
    subprocess.run(decode, check=True)
    coded.unlink()


def objects_of(truth):
    """Rows class, x, y, w, h, visible, id, fights of one frame."""
    rows = [[0, *p["box"], p["visible"], p["id"], p["action"] == "fight"] for p in truth["people"]]
    if truth["ball"]:
        rows.append([1, *truth["ball"]["box"], truth["ball"]["visible"], 0, 0])
    return np.array(rows, np.float32).reshape(-1, 8)


def make(binary, work, seed, purpose, every):
    """Renders a seed's scene and writes work/PURPOSE/SEED.npz; does nothing where that exists."""
    target = Path(work) / purpose / f"{seed}.npz"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed * 7919 + 1)
    uri = plan(seed, purpose)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        header, frames = export(binary, uri, folder)
        width, height, fps = header["width"], header["height"], header["fps"]
        raw = folder / "frames.nv12"
        if purpose == "test" or rng.random() < 0.7:
            quality = 23 if purpose == "test" else rng.choice([18, 21, 23, 26, 29, 32])
            through_h264(raw, width, height, fps, quality, rng.choice(["ultrafast", "veryfast", "veryfast"]))
        pictures = np.memmap(raw, np.uint8, "r").reshape(-1, width * height * 3 // 2)
        phase = rng.random() / CLIP_FPS if purpose == "train" else 0.0
        arrays = extract(pictures, header, frames, every, rng.randrange(every), phase)
        arrays["header"] = np.array(json.dumps(header))
        partial = target.with_suffix(".part.npz")
        np.savez(partial, **arrays)
        partial.rename(target)
    return target


def extract(pictures, header, frames, every, first, phase):
    """What both models see of a scene."""
    width, height = header["width"], header["height"]
    count = min(len(pictures), len(frames))
    detector, objects = [], []
    for index in range(first, count, every):
        picture, box = rgb_input(pictures[index], width, height, *PEOPLE_SIZE)
        rows = objects_of(frames[index])
        rows[:, 1:5] = box.to_input(rows[:, 1:5])
        detector.append(picture)
        objects.append(padded(rows))
    clip, clip_objects, clip_pts, due = [], [], [], phase
    for index in range(count):
        if frames[index]["pts"] / 1e9 + EARLY / CLIP_FPS + 1e-9 < due:
            continue
        due += 1 / CLIP_FPS
        picture, box = gray_input(pictures[index], width, height, *CLIP_SIZE)
        rows = objects_of(frames[index])
        rows[:, 1:5] = box.to_input(rows[:, 1:5])
        clip.append(picture)
        clip_objects.append(padded(rows))
        clip_pts.append(frames[index]["pts"] / 1e9)
    return {
        "pictures": np.stack(detector),
        "objects": np.stack(objects),
        "clip": np.stack(clip),
        "clip_objects": np.stack(clip_objects),
        "clip_pts": np.array(clip_pts),
    }


def padded(rows):
    """Rows filled up to MAX_OBJECTS with class -1."""
    out = np.full((MAX_OBJECTS, 8), -1, np.float32)
    out[: len(rows)] = rows[:MAX_OBJECTS]
    return out


def make_all(binary, work, seeds, purpose, every, jobs):
    """Makes many scenes, `jobs` at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [(seed, pool.submit(make, binary, work, seed, purpose, every)) for seed in seeds]
        for seed, job in waiting:
            job.result()
            print(f"{purpose} {seed}", flush=True)


def load(work, purpose, names, limit=None, known=()):
    """The arrays `names` of every scene made for a purpose, as a list of dictionaries in order of the seeds.

    Without those whose seeds are `known`: training takes up scenes that are still being rendered when it begins.
    """
    paths = [path for path in (Path(work) / purpose).glob("*.npz") if path.stem.isdigit()]
    paths = sorted(paths, key=lambda path: int(path.stem))[:limit]
    if not paths:
        raise FileNotFoundError(f"no scenes in {work}/{purpose}: run `main.py export` first")
    scenes = []
    for path in paths:
        if int(path.stem) in known:
            continue
        with np.load(path) as arrays:
            scene = {name: arrays[name] for name in names}
            scene["header"] = json.loads(str(arrays["header"]))
            scene["seed"] = int(path.stem)
            scenes.append(scene)
    return scenes
